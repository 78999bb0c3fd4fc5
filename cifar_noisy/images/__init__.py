"""The pixels of CIFAR-10: readers, packed files, the Dataset, batches and row alignment."""
