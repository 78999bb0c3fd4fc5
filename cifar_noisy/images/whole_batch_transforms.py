"""Which torchvision transforms may be given a whole batch, and how.

Only those that do to each image of a batch what they would do to it alone, number for number. A
random transform would draw once and treat all images alike.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

Step = Callable[[torch.Tensor], torch.Tensor]

_METHODS = ("__call__", "forward", "transform", "_transform", "make_params", "_get_params")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_compiled_call_impl")


def whole_batch_transform(transform: object) -> Step | None:
    """Return the function that does to a batch what a transform does to each PIL image.

    It takes (N, 3, 32, 32) uint8 in any memory format and returns a contiguous batch. None means
    that images must be transformed one by one.

    Examples
    --------
    >>> from torchvision.transforms import v2
    >>> to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    >>> batch = torch.full((2, 3, 1, 1), 51, dtype=torch.uint8)
    >>> whole_batch_transform(v2.Compose(to_tensor))(batch).sum()
    tensor(1.2000)
    >>> whole_batch_transform(v2.Compose([v2.RandomHorizontalFlip(), *to_tensor])) is None
    True
    """
    # Whoever has a torchvision transform has imported it; nobody else needs to.
    if transform is None or "torchvision" not in sys.modules:
        return None
    found = [
        _later_step(step) if number else _conversion(step)
        for number, step in enumerate(_flattened(transform))
    ]
    steps = [step for step in found if step is not None]
    return functools.partial(_apply, steps) if steps and len(steps) == len(found) else None


def _apply(steps: list[Step], batch: torch.Tensor) -> torch.Tensor:
    for step in steps:
        batch = step(batch)
    return batch


def _flattened(transform: Any) -> Iterator[object]:
    """Yield the steps of nested compositions; exact types, since a subclass may do anything."""
    from torchvision import transforms
    from torchvision.transforms import v2

    if not _is_as_written(transform):
        yield None  # which is no step
    elif type(transform) in (transforms.Compose, v2.Compose):
        for step in transform.transforms:
            yield from _flattened(step)
    elif type(transform) is torch.nn.Sequential:
        for step in transform:
            yield from _flattened(step)
    else:
        yield transform


def _is_as_written(step: object) -> bool:
    """Whether neither hooks nor patches, on the object or its class, change what it does."""
    if any(getattr(step, "__dict__", {}).get(name) for name in (*_METHODS, *_HOOKS)):
        return False
    methods = [method for name in _METHODS if (method := getattr(type(step), name, None))]
    # What functools.wraps copies does not tell.
    modules = [getattr(method, "__globals__", {}).get("__name__", "") for method in methods]
    return all(module.partition(".")[0] in ("torch", "torchvision") for module in modules)


def _conversion(step: object) -> Step | None:
    """Return what a first step does that turns PIL images into tensors."""
    from torchvision import transforms
    from torchvision.transforms import v2

    if type(step) in (transforms.PILToTensor, v2.PILToTensor, v2.ToImage):
        return torch.Tensor.contiguous
    return _to_unit_floats if type(step) in (transforms.ToTensor, v2.ToTensor) else None


def _to_unit_floats(batch: torch.Tensor) -> torch.Tensor:
    # One pass that changes layout and type together; ToTensor divides too.
    floats = batch.to(torch.get_default_dtype(), memory_format=torch.contiguous_format)
    return floats.div_(255)


def _later_step(step: Any) -> Step | None:
    """Return what a later step does to a batch of tensors."""
    from torchvision import transforms
    from torchvision.transforms import v2

    if type(step) in (transforms.Normalize, v2.Normalize):
        return functools.partial(_normalize, step)
    if type(step) is v2.ToDtype and not isinstance(step.dtype, torch.dtype):
        return None
    per_image: set[Any] = {
        transforms.ConvertImageDtype, transforms.CenterCrop, transforms.Pad, transforms.Grayscale,
        v2.ConvertImageDtype, v2.CenterCrop, v2.Pad, v2.Grayscale, v2.ToDtype, v2.ToPureTensor,
        v2.Identity, torch.nn.Identity,
    }  # fmt: skip
    return step if type(step) in per_image else None


def _normalize(step: Any, batch: torch.Tensor) -> torch.Tensor:
    """Normalize in place, since the batch is nobody else's."""
    from torchvision.transforms import functional

    # Grayscale gives three channels that are one in memory.
    batch = batch.contiguous()
    normalized: torch.Tensor = functional.normalize(batch, step.mean, step.std, inplace=True)
    return normalized
