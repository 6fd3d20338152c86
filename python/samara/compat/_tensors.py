"""NumPy arrays and torch tensors: which of them came in, and the same kind back. Torch is never imported here."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""


class Device(str):
    """Where a model computes, for programs without torch."""

    type = "cpu"


def loaded_torch() -> Any:
    """The module ``torch``, if the program has imported it."""
    return sys.modules.get("torch")


def is_tensor(value: Any) -> bool:
    """Whether this is a tensor of torch."""
    kind = getattr(loaded_torch(), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def tensor_among(*values: Any) -> Any:
    """The first tensor of torch among these, or None."""
    return next((value for value in values if is_tensor(value)), None)


def to_numpy(value: Any) -> NDArray[Any]:
    """The values as an array; those of a tensor on the CPU are not copied."""
    if not is_tensor(value):
        return np.asarray(value)
    value = value.detach().cpu()
    if value.dtype == loaded_torch().bfloat16:
        value = value.float()
    array: NDArray[Any] = value.numpy()
    return array


def like(array: NDArray[Any], given: Any) -> Array:
    """The array as what was given: a tensor on its device if that is one, else the array itself."""
    if not is_tensor(given):
        return array
    return loaded_torch().from_numpy(array).to(given.device)


def tensor_if_loaded(array: NDArray[Any]) -> Array:
    """A tensor if the program uses torch, else the array itself."""
    torch = loaded_torch()
    return array if torch is None else torch.from_numpy(array)


def cpu() -> Any:
    """The device of all results that follow no tensor."""
    torch = loaded_torch()
    return Device("cpu") if torch is None else torch.device("cpu")


def numbers(value: Any, what: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """Numbers as an array of this shape; None stands for any length.

    Raises
    ------
    ValueError
        They have another shape, or are no numbers.
    """
    wanted = ", ".join("n" if length is None else str(length) for length in shape)
    try:
        array = to_numpy(value)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: cannot be read as an array of shape ({wanted})") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what}: an array of {array.dtype}, expected numbers")
    fits = len(array.shape) == len(shape) and all(
        length in (None, found) for length, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{what}: an array of shape {array.shape}, expected ({wanted})")
    return array.astype(np.float64)
