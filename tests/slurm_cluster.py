"""A Slurm of one node on this machine, with daemons, ports, key and state of its own."""

import os
import platform
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "squeue", "scancel")
_PATIENCE = 180.0

_CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
AuthType=auth/munge
# A requeued job waits as long as a credential lasts: by default two minutes, 5 s at least.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MaxArraySize=2
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# As many CPUs as the test has jobs at a time, whatever this machine has.
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Say why there can be no Slurm here; None if there can."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"needs Debian's slurm-wlm and munge: no {missing[0]} here"
    return None if os.geteuid() == 0 else "needs root, to start the daemons of Slurm"


@dataclass(frozen=True)
class Cluster:
    """A running Slurm; commands reach it by `environment`."""

    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands; return what it printed."""
        return subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=True
        ).stdout

    def job(self, job: str) -> dict[str, str]:
        """Return what Slurm knows of a job, such as "3_1"."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def queue(self) -> list[str]:
        """Return the ids of the jobs that are waiting or running."""
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start the daemons, and end them and all jobs."""
    # Not below pytest's folders, which user munge may not enter; and names of sockets are short.
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)
        configuration = folder / "slurm.conf"
        host = platform.node().partition(".")[0]
        ctld_port, slurmd_port = _free_ports(2)
        configuration.write_text(
            _CONFIGURATION.format(
                host=host, folder=folder, ctld_port=ctld_port, slurmd_port=slurmd_port
            )
        )
        found = Cluster({"SLURM_CONF": str(configuration), "PATH": _path()})
        _start_munge(folder, stack)
        for name in ("slurmctld", "slurmd"):
            _start([name, "-D", "-f", str(configuration)], folder / f"{name}.log", stack)
        wait_for(lambda: _is_idle(found), f"Slurm; its logs are in {folder}")
        stack.callback(wait_for, lambda: not found.queue(), "jobs to end")
        stack.callback(found.run, "scancel", "--user=root")
        yield found


def _start_munge(folder: Path, stack: ExitStack) -> None:
    own = folder / "munge"
    own.mkdir()
    key = own / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    munge = pwd.getpwnam("munge")
    for path in (own, key):
        os.chown(path, munge.pw_uid, munge.pw_gid)
    options = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log",
               "seed-file": "seed"}  # fmt: skip
    words = [
        "munged",
        "--foreground",
        *(f"--{name}={own / file}" for name, file in options.items()),
    ]
    _start(words, folder / "munged.log", stack, user="munge")
    wait_for((own / "socket").exists, "munged")


def _start(words: list[str], log: Path, stack: ExitStack, user: str | None = None) -> None:
    file = stack.enter_context(log.open("wb"))
    group = None if user is None else pwd.getpwnam(user).pw_gid
    process = subprocess.Popen(
        words, stdout=file, stderr=file, user=user, group=group,
        extra_groups=None if user is None else [], env=os.environ | {"PATH": _path()},
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _is_idle(found: Cluster) -> bool:
    said = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"],
        env=os.environ | found.environment, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return said.strip() == "idle"


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]


def _path() -> str:
    """Return where programs are looked for, with where Debian puts daemons."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"
