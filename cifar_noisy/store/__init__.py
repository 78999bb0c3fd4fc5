"""Bytes on this machine: the registry, downloads, locks, atomic and sealed files, the cache."""
