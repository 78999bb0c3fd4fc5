"""Print how few rows out of place within one class `check_alignment` sees, in 50 trials each.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER python scripts/alignment_power.py IMAGES

IMAGES are CIFAR-10 or a re-encoded copy, in any form that `load_images` reads.
"""

import sys
from types import SimpleNamespace

import numpy as np

from cifar_noisy import check_alignment, load_images, load_true_labels
from cifar_noisy.images.user_datasets import read_rows

TRIALS, PER_CLASS = 50, 5_000


def main() -> int:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    labels = load_true_labels()
    pixels = load_images(sys.argv[1], trust="pixels").pixels
    # The check pools images to 8x8; pooled once, they come out the same each time.
    pooled = read_rows(SimpleNamespace(data=pixels, targets=labels)).pooled
    for n_rows in (250, 50, 25, 10, 5, 3, 2):
        n_rejected = 0
        for seed in range(TRIALS):
            order = np.arange(len(labels))
            chosen = seed % 10 * PER_CLASS + np.random.default_rng(seed).permutation(PER_CLASS)
            order[chosen[:n_rows]] = np.roll(chosen[:n_rows], 1)
            found = check_alignment(SimpleNamespace(data=pooled[order], targets=labels))
            n_rejected += found.verdict == "misaligned"
        print(f"{n_rows} rows of a class out of place: rejected in {n_rejected} of {TRIALS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
