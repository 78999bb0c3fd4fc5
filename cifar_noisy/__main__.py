"""``python -m cifar_noisy``, for programs that start it with their own Python."""

from cifar_noisy.cli import main

main()
