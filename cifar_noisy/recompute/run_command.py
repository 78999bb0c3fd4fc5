"""`cifar-noisy recompute run` as a command line, for processes beside this one and for Slurm."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunCommand:
    """The options of `recompute run`, except which tasks; root and trust replace the plan's."""

    folder: Path
    root: Path | None = None
    trust: str | None = None
    device: str = "cpu"
    threads: int | None = None
    allow_other_hardware: bool = False

    def argv(self) -> list[str]:
        """Return the command line, which does the same from any working directory."""
        # -P: what lies in the folder that it is started in is not imported.
        argv = [sys.executable, "-P", "-m", "cifar_noisy", "recompute", "run"]
        argv += ["--folder", str(self.folder.absolute()), "--device", self.device]
        if self.threads is not None:
            argv += ["--threads", str(self.threads)]
        if self.root is not None:
            argv += ["--root", str(self.root.absolute())]
        if self.trust is not None:
            argv += ["--trust", self.trust]
        if self.allow_other_hardware:
            argv += ["--allow-other-hardware"]
        return argv
