"""The memory that training keeps, in a process of its own, by the page faults that it has."""

import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import resource
import torch
from cifar_noisy.recompute.malloc import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1])

torch.set_num_threads(1)
at_first = faults()
with keep_freed_memory():
    faults()
    meanwhile, held = faults(), resident()
print(at_first, meanwhile, held, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_used_again_and_given_back_at_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True
    )
    at_first, meanwhile, held, left = (int(word) for word in done.stdout.split())
    pages = 10_000_000 * 4 // 4096
    assert meanwhile < 10 * pages < at_first
    assert held - left > pages // 2
