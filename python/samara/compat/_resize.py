"""Bilinear scaling with antialias, to the bit as Pillow and, for numbers, as torch do it.

Pillow 13 scales the height of tall images first, which moves some pixels by one step; this and the engine scale the
width first, as Pillow 11 does, which was there when the models were trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = 22
"""Pillow computes with weights of so many binary digits."""

Taps = tuple[NDArray[np.intp], NDArray[np.float64]]


def resize_pixels(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scales ``uint8`` pixels ``[height, width, ...]`` to ``size`` (height, width)."""
    for axis in (1, 0):
        if pixels.shape[axis] != size[axis]:
            index, weights = _taps(pixels.shape[axis], size[axis])
            whole = np.floor(weights * (1 << BITS) + 0.5).astype(np.int32)
            sums = _weighted(pixels, index, whole, axis, np.int32) + np.int32(1 << (BITS - 1))
            pixels = np.clip(sums >> BITS, 0, 255).astype(np.uint8)
    return pixels


def resize_values(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scales the last two axes of numbers ``[..., height, width]`` to ``size``."""
    for axis, length in ((-1, size[1]), (-2, size[0])):
        if values.shape[axis] != length:
            index, weights = _taps(values.shape[axis], length)
            values = _weighted(values, index, weights.astype(values.dtype), axis, values.dtype)
    return values


def interpolate(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Scales the last two axes to ``size`` without antialias, as torch does it by default."""
    for axis, length in ((-2, size[0]), (-1, size[1])):
        old = values.shape[axis]
        if old != length:
            at = np.maximum((np.arange(length, dtype=np.float32) + 0.5) * np.float32(old / length) - 0.5, 0)
            index = np.minimum(np.floor(at).astype(np.intp), old - 1)
            share = (at - index).astype(np.float32)
            index, weights = np.stack([index, np.minimum(index + 1, old - 1)], 1), np.stack([1 - share, share], 1)
            values = _weighted(values, index, weights, axis, np.float32)
    return values


def _taps(old: int, new: int) -> Taps:
    """For each of ``new`` values, which of the ``old`` ones make it, and their weights: arrays ``[new, taps]``."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.intp), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.intp), old)
    index = first[:, None] + np.arange((last - first).max())
    weights = np.maximum(1.0 - np.abs((index + 0.5 - centres[:, None]) / reach), 0.0)
    weights[index >= last[:, None]] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.minimum(index, old - 1), weights


def _weighted(
    values: NDArray[Any], index: NDArray[np.intp], weights: NDArray[Any], axis: int, kind: Any
) -> NDArray[Any]:
    shape = [1] * values.ndim
    shape[axis] = len(index)
    sums: NDArray[Any] = np.zeros((), kind)
    for tap in range(index.shape[1]):
        sums = sums + values.take(index[:, tap], axis=axis).astype(kind) * weights[:, tap].reshape(shape)
    return sums
