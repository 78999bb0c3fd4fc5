"""Measure the training steps of recompute: fast against the ordinary way, and paper's step time.

    python scripts/bench_recompute.py TORCHVISION_ROOT [--trust pixels] [--steps 6] [--threads 2]
    python scripts/bench_recompute.py --recomputed FOLDER ...

With folders of cifar-noisy recompute, it prints what their settings came to beside the published
files and the figures that `fast` is to reach. Without, TORCHVISION_ROOT holds CIFAR-10 as
torchvision has it, and there are three measurements, each after a few steps that do not count:

1. images per second of a step of fast, on full-sized images, against the same network, optimizer
   and schedule with torchvision's transforms on PIL images, a DataLoader and contiguous float32
   tensors; and against the same step where the C library gives freed memory back; all in turns,
   so that a busy machine slows all;
2. the share of a step of fast in which its data are prepared;
3. the time of a step of paper at its published size, and what a fold and a setting would take.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from cifar_noisy import Setting, evaluate_pyx
from cifar_noisy.images.augmentation import Crops
from cifar_noisy.loading.artifact_loading import published_pyx
from cifar_noisy.recompute.datasets import Dataset, folds_of, open_dataset
from cifar_noisy.recompute.fast import FastResNet, FastTrainer, learning_rate_at
from cifar_noisy.recompute.malloc import keep_freed_memory
from cifar_noisy.recompute.paper import PaperTrainer
from cifar_noisy.recompute.probe import MINUTES, choose, measure
from cifar_noisy.recompute.recipes import FastRecipe, PaperRecipe
from cifar_noisy.recompute.training import Trainer, TrainingData

# At sparsity 0: accuracy against given and true labels, best F1 of a mask.
TO_REACH = {
    Setting(0, 0): (0.87, 0.87, None),
    Setting(0.2, 0): (0.68, 0.83, 0.81),
    Setting(0.4, 0): (0.52, 0.79, 0.88),
    Setting(0.7, 0): (0.31, None, None),
}
_ROUNDS = 2
_WARM_UP = 4  # the loader has as many batches ready: two workers with two each
_WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path, metavar="TORCHVISION_ROOT", nargs="?")
    parser.add_argument("--recomputed", type=Path, metavar="FOLDER", nargs="+", default=[])
    parser.add_argument("--trust", help="as for load_images: pixels admits other checksums")
    parser.add_argument(
        "--steps", type=int, default=6, help="that are timed of fast, in each round"
    )
    parser.add_argument("--paper-steps", type=int, default=5, help="that are timed, of paper")
    parser.add_argument("--threads", type=int, help="of the CPU; by default torch's")
    arguments = parser.parse_args()
    for folder in arguments.recomputed:
        print_settings(folder)
    if arguments.root is None:
        if not arguments.recomputed:
            parser.error("pass TORCHVISION_ROOT, or --recomputed with a folder")
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    dataset = open_dataset("cifar10", arguments.root, trust=arguments.trust)
    training = fold_of(dataset)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"{torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    figures = {
        "fast": compare_fast(dataset, training, arguments.root, arguments.steps),
        "paper": project_paper(training, arguments.paper_steps),
    }
    print(json.dumps(figures, indent=2))


def print_settings(folder: Path) -> None:
    """Print each collected setting: published, bound, to reach, and what it came to."""
    for file in sorted(folder.glob("cifar10/*/provenance.json")):
        record = json.loads(file.read_text())
        setting, summary = Setting(**record["setting"]), record["summary"]
        published = evaluate_pyx(published_pyx(setting), setting.noise, setting.sparsity)
        given, true, f1 = TO_REACH.get(setting, (None, None, None))
        seconds = [training["seconds"] for training in record["trainings"].values()]
        print(f"{setting}; seconds of the folds: {', '.join(f'{s:.0f}' for s in seconds)}")
        rows = [
            ("accuracy against given labels", published.against_given.accuracy, given,
             summary["given_accuracy"]),
            ("accuracy against true labels", published.against_true.accuracy, true,
             summary["true_accuracy"]),
        ]  # fmt: skip
        if setting.noise:
            theirs = max(found.f1 or 0.0 for found in published.published)
            scores = {name: score["f1"] for name, score in summary["scores"].items()}
            best = max(scores, key=lambda name: scores[name])
            rows.append((f"best F1 of a mask (here {best})", theirs, f1, scores[best]))
        for name, theirs, reach, here in rows:
            bound = f" / bound {summary['given_bound']:.3f}" if "given" in name else ""
            verdict = "" if reach is None else f" / reach {reach} / {here - reach:+.4f}"
            print(f"  {name}: published {theirs:.3f}{bound} / here {here:.4f}{verdict}")


def fold_of(dataset: Dataset) -> TrainingData:
    (held_out, *_) = folds_of(dataset.labels, 4)
    train = np.setdiff1d(np.arange(len(dataset.labels)), held_out)
    labels = dataset.noisy_labels(Setting(0.4, 0))
    return TrainingData(dataset.pixels, labels, train, held_out, 10, dataset.allow_flip, "bench")


def compare_fast(
    dataset: Dataset, training: TrainingData, root: Path, n_steps: int
) -> dict[str, float]:
    recipe = choose(measure("cpu"), FastRecipe(small_epochs=0), (), MINUTES, 4)
    trainer = FastTrainer(recipe, training)
    data_seconds: list[float] = []
    note_data(trainer, data_seconds)
    ours, theirs = steps_of(trainer), ordinary_steps(recipe, root)
    turns = (
        ("fast", ours, keep_freed_memory),
        ("given back", ours, nullcontext),
        ("ordinary", theirs, nullcontext),
    )
    times: dict[str, list[float]] = {name: [] for name, *_ in turns}
    for _ in range(_ROUNDS):
        for name, steps, memory in turns:
            # Not counted: what warms up, and for the loader what it prepared in the others' turns.
            with memory():
                block = [next(steps) for _ in range(_WARM_UP + n_steps)]
            times[name] += block[_WARM_UP:]
    fast, given_back, ordinary = (statistics.mean(times[name]) for name in times)
    return {
        "fast_images_per_second": round(recipe.batch_size / fast, 1),
        "ordinary_images_per_second": round(recipe.batch_size / ordinary, 1),
        "ratio": round(ordinary / fast, 2),
        "ratio_to_memory_given_back": round(given_back / fast, 2),
        "data_share_of_step": round(statistics.mean(data_seconds[_WARM_UP:]) / fast, 4),
    }


def steps_of(trainer: Trainer) -> Iterator[float]:
    """Yield the seconds of each step."""
    while trainer.step < trainer.n_steps:
        epoch_index, batch_index = divmod(trainer.step, trainer.steps_per_epoch)
        epoch = trainer.sample_epoch(epoch_index)
        started = time.perf_counter()
        trainer._train_step(epoch_index, batch_index, epoch)
        yield time.perf_counter() - started


def note_data(trainer: FastTrainer, seconds: list[float]) -> None:
    """Note what the preparation of each batch takes."""
    augmented = trainer.images.augmented

    def timed(rows: Tensor, crops: Crops) -> Tensor:
        started = time.perf_counter()
        images = augmented(rows, crops)
        seconds.append(time.perf_counter() - started)
        return images

    trainer.images.augmented = timed  # type: ignore[method-assign]


def ordinary_steps(recipe: FastRecipe, root: Path) -> Iterator[float]:
    """Yield the seconds of each step of the same network, trained as tutorials do it.

    All images are trained on, with their true labels; which they are does not matter for the time.
    """
    from torchvision import transforms
    from torchvision.datasets import CIFAR10, cifar

    cifar.check_integrity = lambda *_: True  # it refuses images that are not the official ones
    steps = [
        transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ]
    images = CIFAR10(root, transform=transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(
        images, recipe.batch_size, shuffle=True, drop_last=True, num_workers=_WORKERS
    )
    network = FastResNet(3, 10, recipe.width)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=0.0,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    n_steps = recipe.epochs * len(loader)
    batches = iter(loader)
    for step in range(n_steps):
        started = time.perf_counter()
        pixels, labels = next(batches)
        loss = F.cross_entropy(network(pixels), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, n_steps, recipe)
        optimizer.step()
        loss.item()
        yield time.perf_counter() - started


def project_paper(training: TrainingData, n_steps: int) -> dict[str, float]:
    recipe = PaperRecipe()
    trainer = PaperTrainer(recipe, training)
    steps = steps_of(trainer)
    times = [next(steps) for _ in range(_WARM_UP + n_steps)]
    step = statistics.median(times[_WARM_UP:])
    hours = step * trainer.n_steps / 3600
    return {
        "seconds_per_step": round(step, 3),
        "images_per_second": round(recipe.batch_size / step, 1),
        "steps_of_a_fold": trainer.n_steps,
        "hours_of_a_fold": round(hours, 1),
        "days_of_a_setting": round(4 * hours / 24, 1),
    }


if __name__ == "__main__":
    main()
