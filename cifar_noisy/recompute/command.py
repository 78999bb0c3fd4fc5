"""`cifar-noisy recompute run` as other programs start it: a slot beside others, or Slurm."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunCommand:
    """Runs tasks of a folder by this Python and this package.

    Attributes
    ----------
    folder : Path
        Of a plan.
    root : Path or None
    trust : str or None
        Where CIFAR-10's images are, as for `load_images`; by default where the plan has them.
    device : str
    threads : int or None
        Of the CPU; None for torch's default.
    allow_other_hardware : bool
        Whether to continue what was begun on other hardware.
    """

    folder: Path
    root: Path | None = None
    trust: str | None = None
    device: str = "cpu"
    threads: int | None = None
    allow_other_hardware: bool = False

    def words(self) -> list[str]:
        """Return the command but for its tasks; it runs the same in any folder.

        Examples
        --------
        >>> RunCommand(Path("/plan"), threads=2).words()[4:]
        ['recompute', 'run', '--folder', '/plan', '--device', 'cpu', '--threads', '2']
        """
        options = {
            "--folder": str(self.folder.absolute()),
            "--device": self.device,
            "--threads": self.threads,
            "--root": None if self.root is None else str(self.root.absolute()),
            "--trust": self.trust,
        }
        given = [
            word
            for option, value in options.items()
            if value is not None
            for word in (option, str(value))
        ]
        if self.allow_other_hardware:
            given.append("--allow-other-hardware")
        # -P: what lies in the folder that it is started in is not imported.
        return [sys.executable, "-P", "-m", "cifar_noisy", "recompute", "run", *given]
