"""The hardware and library state that results depend on, besides the run configuration."""

import contextlib
import platform
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cifar_noisy
from cifar_noisy.errors import RecomputeError
from cifar_noisy.recompute.recipes import check_device_name


def check_device(device: str) -> None:
    """Raise if a text names no device, or one that this machine does not have."""
    check_device_name(device)
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise RecomputeError(
            f"device {device!r} is not there: this torch ({torch.__version__}) sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 by itself, without emulation.

    A CPU without such instructions is only slower, which a probe finds out.

    >>> has_bfloat16(torch.device("cpu"))
    True
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu"


def _has_amx() -> bool:
    # Versions of torch that cannot tell are taken for not having it.
    capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return bool(capabilities().get("amx_bf16"))


def hardware(device: str) -> dict[str, Any]:
    """Return what a training on a device gives the same bits on, threads and versions included."""
    versions = {"torch": str(torch.__version__), "cifar-noisy": cifar_noisy.__version__}
    place = torch.device(device)
    if place.type == "cuda":
        return {"device": "cuda", "gpu": torch.cuda.get_device_name(place), **versions}
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    cpu += " AMX" if _has_amx() else ""
    return {"device": "cpu", "threads": torch.get_num_threads(), "cpu": cpu, **versions}


def other_hardware(
    task_id: str, begun: dict[str, Any], here: dict[str, Any], folder: Path
) -> RecomputeError:
    """Return the error to raise on a training that would not end in the bits that it began for."""
    names = [name for name in begun if here.get(name) != begun[name]]
    options = [name for name in ("device", "threads") if name in begun]
    elsewhere = [name for name in names if name not in options]
    command = f"cifar-noisy recompute run --folder {shlex.quote(str(folder))}"
    command += "".join(f" --{name} {begun[name]}" for name in options)
    command += f" where {_said(begun, elsewhere)}" if elsewhere else ""
    return RecomputeError(
        f"{task_id} was begun with {_said(begun, names)}; here {_said(here, names)}: continue it "
        f"with {command}, or, to get other bits, add --allow-other-hardware"
    )


def _said(values: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {values.get(name, '-')}" for name in names)


@contextlib.contextmanager
def defaults_of_libraries(threads: int | None) -> Iterator[None]:
    """Compute by the defaults of torch and numpy, whatever the caller set; that is put back."""
    n_threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.get_deterministic_debug_mode()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, n_threads)
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(torch.set_deterministic_debug_mode, deterministic)
        torch.set_num_threads(threads or n_threads)
        torch.set_default_dtype(torch.float32)
        try:
            precision = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            stack.callback(torch.set_float32_matmul_precision, precision)
        except RuntimeError:  # of torch, where precisions were set by backend
            for backend in (torch.backends.cuda, torch.backends.mkldnn):
                _set_meanwhile(stack, getattr(backend, "matmul"), "fp32_precision", "ieee")  # noqa: B009
        _set_meanwhile(stack, torch.backends.mkldnn, "enabled", True)
        torch.set_deterministic_debug_mode("default")
        stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.autocast("cuda", enabled=False))
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if torch.empty(0).device.type != "cpu":  # else it would only slow every call down
            stack.enter_context(torch.device("cpu"))
        yield


def _set_meanwhile(stack: contextlib.ExitStack, owner: object, name: str, value: object) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
