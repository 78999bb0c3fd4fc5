"""How fast a device trains `fast`: a few seconds of real steps, and the width that follows.

A step is timed in processor seconds of one thread, in turns with the other candidates, and the
least of several rounds counts, so that a busy machine comes to the same choice as an idle one.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_noisy.errors import InvalidInputError, MissingInputError
from cifar_noisy.recompute.recipes import PRECISIONS, FastRecipe
from cifar_noisy.store.sealed import read_sealed_json, write_sealed_json

if TYPE_CHECKING:
    from cifar_noisy.recompute.fast import FastTrainer

MINUTES = 30.0
"""What a setting may take by default, all its folds together."""

WIDTHS = {"cpu": (16, 24, 32), "cuda": (32, 48, 64)}
"""The widths of `fast` that are timed and chosen from. Nothing was measured on a GPU."""

SIDE, SMALL_SIDE = 32, 20
_BATCH_SIZE = 128
_ROUNDS = 3  # the first does not count
_FORWARD = 1 / 3  # of a step's time takes the prediction of as many images
_N_VIEWS = 8  # of a held-out image are averaged
_N_MONITORED = 2_000  # images are predicted after each epoch, mirror images counted


@dataclass(frozen=True)
class Probe:
    """What was measured on a device.

    Attributes
    ----------
    device : {"cpu", "cuda"}
    processor : str
        Of which kind it is.
    n_cores : int
        Cores of the CPU that this process may use; 1 for a GPU.
    seconds : dict of (precision, width) to (float, float)
        Processor seconds of a training step for one image of 20x20 and of 32x32 pixels.
    """

    device: str
    processor: str
    n_cores: int
    seconds: Mapping[tuple[str, int], tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values of JSON."""
        rows = [
            {"precision": precision, "width": width, "small": small, "full": full}
            for (precision, width), (small, full) in self.seconds.items()
        ]
        return dataclasses.asdict(dataclasses.replace(self, seconds={})) | {"seconds": rows}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Probe":
        """Invert `to_dict`; raise InvalidInputError for anything else."""
        try:
            seconds = {
                (str(row["precision"]), int(row["width"])): (
                    float(row["small"]),
                    float(row["full"]),
                )
                for row in content["seconds"]
            }
            probe = cls(
                str(content["device"]), str(content["processor"]), int(content["n_cores"]), seconds
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError("it is no record of cifar-noisy recompute probe") from error
        numbers = [value for pair in seconds.values() for value in pair]
        is_known = all(name in PRECISIONS and width > 0 for name, width in seconds)
        if (
            not numbers
            or not is_known
            or probe.n_cores < 1
            or not all(0 < n < 1e6 for n in numbers)
        ):
            raise InvalidInputError("its numbers make no sense: measure again")
        return probe

    def step_seconds(self, precision: str, width: int, side: int) -> float:
        """Return the processor seconds of a training step for one image of a side.

        Between and beyond what was measured, it grows as a power of the width, and with the area.
        """
        measured = {w: pair for (name, w), pair in self.seconds.items() if name == precision}
        if not measured:
            measured = {w: pair for (_, w), pair in self.seconds.items()}
        small, full = (
            _power_law({w: pair[i] for w, pair in measured.items()}, width) for i in (0, 1)
        )
        slope = (full - small) / (SIDE**2 - SMALL_SIDE**2)
        return max(small + slope * (side**2 - SMALL_SIDE**2), small * 0.01)


def measure(device: str = "cpu") -> Probe:
    """Time steps of `fast` on a device, for a few seconds; raise if this machine has it not."""
    import torch

    from cifar_noisy.recompute.hardware import check_device, defaults_of_libraries, hardware
    from cifar_noisy.recompute.malloc import keep_freed_memory

    check_device(device)
    kind = torch.device(device).type
    best: dict[tuple[str, int], tuple[float, float]] = {}
    with defaults_of_libraries(1), keep_freed_memory():
        trainers = dict(_trainers(device))
        clock = _clock(device)
        for number in range(_ROUNDS):
            for key, trainer in trainers.items():
                now = _seconds_of_steps(trainer, number, clock)
                if number:
                    before = best.get(key, now)
                    best[key] = (min(before[0], now[0]), min(before[1], now[1]))
        here = hardware(device)
    processor = str(here.get("gpu") or here["cpu"])
    return Probe(kind, processor, available_cores() if kind == "cpu" else 1, best)


def choose(
    probe: Probe, recipe: FastRecipe, fixed: Collection[str], minutes: float, n_folds: int
) -> FastRecipe:
    """Return a recipe with its width and precision chosen, where they are not fixed.

    The widest is chosen that trains all folds within the time, each width in the precision that is
    faster; the narrowest if none does.
    """
    widths = sorted({width for _, width in probe.seconds}, reverse=True)
    for width in [recipe.width] if "width" in fixed else widths:
        names = {recipe.precision} if "precision" in fixed else {name for name, _ in probe.seconds}
        precision = min(sorted(names), key=lambda name: probe.step_seconds(name, width, SIDE))
        recipe = dataclasses.replace(recipe, width=width, precision=precision)
        if expected_seconds(probe, recipe, n_folds) <= 60 * minutes:
            break
    return recipe


def expected_fold_seconds(probe: Probe, recipe: FastRecipe, n_folds: int, n: int = 50_000) -> float:
    """Return the processor seconds that training and predicting one of the folds will take."""
    n_held_out = n / n_folds
    small = min(recipe.small_epochs, recipe.epochs)
    sides = ((small, round(recipe.small_scale * SIDE)), (recipe.epochs - small, SIDE))
    step = {side: probe.step_seconds(recipe.precision, recipe.width, side) for _, side in sides}
    trained = sum(epochs * (n - n_held_out) * step[side] for epochs, side in sides)
    predicted = (_N_VIEWS * n_held_out + recipe.epochs * _N_MONITORED) * step[SIDE] * _FORWARD
    return trained + predicted


def expected_seconds(probe: Probe, recipe: FastRecipe, n_folds: int) -> float:
    """Return the seconds that the folds of given labels take, one on each core at a time."""
    at_a_time = min(probe.n_cores, n_folds)
    return math.ceil(n_folds / at_a_time) * expected_fold_seconds(probe, recipe, n_folds)


def read_probe(path: Path) -> Probe:
    """Read what `write_probe` wrote."""
    content = read_sealed_json(path)
    if content is None:
        if not path.exists():
            raise MissingInputError(
                f"there is no file {path}: make it with cifar-noisy recompute probe"
            )
        raise InvalidInputError(f"{path} is damaged: make it with cifar-noisy recompute probe")
    try:
        return Probe.from_dict(content)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def write_probe(probe: Probe, path: Path) -> None:
    """Write it to a file, for plans of this kind of machine that are made elsewhere."""
    write_sealed_json(path, probe.to_dict())


def available_cores() -> int:
    """Return how many cores this process may use: those it is bound to, within its quota."""
    try:
        n_cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        n_cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        n_cores = min(n_cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file; "max", which is no quota
        pass
    return n_cores


def _trainers(device: str) -> Iterator[tuple[tuple[str, int], "FastTrainer"]]:
    """Make a training of each width and precision, on noise of the images' shape."""
    import torch

    from cifar_noisy.recompute.fast import FastTrainer
    from cifar_noisy.recompute.hardware import has_bfloat16
    from cifar_noisy.recompute.training import TrainingData

    place = torch.device(device)
    rng, n = np.random.default_rng(0), _ROUNDS * _BATCH_SIZE
    pixels = rng.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8)
    labels, rows = rng.integers(0, 10, n), np.arange(n)
    data = TrainingData(pixels, labels, rows, rows[:_BATCH_SIZE], 10, True, "probe")
    names = PRECISIONS if has_bfloat16(place) else ("float32",)
    for width in WIDTHS[place.type]:
        for precision in names:
            recipe = FastRecipe(
                epochs=2, small_epochs=1, batch_size=_BATCH_SIZE, width=width, precision=precision
            )
            yield (precision, width), FastTrainer(recipe, data, device)


def _seconds_of_steps(
    trainer: "FastTrainer", number: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Take a step on small and one on full images; return the seconds for one image of each."""
    seconds = []
    for epoch in (0, 1):
        randomness = trainer.sample_epoch(epoch)
        started = clock()
        trainer._train_step(epoch, number, randomness)
        seconds.append((clock() - started) / _BATCH_SIZE)
    return seconds[0], seconds[1]


def _clock(device: str) -> Callable[[], float]:
    import time

    import torch

    place = torch.device(device)
    if place.type == "cpu":
        return time.thread_time

    def synchronized() -> float:
        torch.cuda.synchronize(place)
        return time.perf_counter()

    return synchronized


def _power_law(seconds: Mapping[int, float], width: int) -> float:
    """Return the value at a width of the power law between, or of the last two of, measurements."""
    if width in seconds or len(seconds) == 1:
        return seconds.get(width, next(iter(seconds.values())))
    widths = sorted(seconds)
    upper = min(max(sum(w < width for w in widths), 1), len(widths) - 1)
    (w0, w1), (s0, s1) = (
        widths[upper - 1 : upper + 1],
        [seconds[w] for w in widths[upper - 1 : upper + 1]],
    )
    exponent = math.log(s1 / s0) / math.log(w1 / w0)
    return s0 * math.pow(width / w0, exponent)
