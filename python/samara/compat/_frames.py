"""Sizes and coordinates in the image and in the frame of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-3
"""How far from the image's edge, in pixels, a coordinate may come to lie by 32-bit arithmetic."""


def scaled_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width when the longest side is scaled to ``longest``."""
    scale = longest * 1.0 / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def factors(size: tuple[int, int], longest: int) -> tuple[float, float]:
    """What x and y of an image of ``size`` (height, width) are multiplied with."""
    height, width = size
    new_height, new_width = scaled_size(height, width, longest)
    return new_width / width, new_height / height


def onto_image(xy: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Moves coordinates onto the image that only rounding put beside it."""
    end = np.array([size[1], size[0]], dtype=np.float64)
    xy = np.where((xy < 0) & (xy >= -ROUNDING), 0.0, xy)
    return np.where((xy >= end) & (xy <= end + ROUNDING), np.nextafter(end, 0), xy)


def pair(size: Any, what: str) -> tuple[int, int]:
    """Height and width, as whole numbers."""
    try:
        height, width = (int(length) for length in size)
    except (TypeError, ValueError):
        raise ValueError(f"{what}: {size!r} is no pair of height and width") from None
    if height < 1 or width < 1:
        raise ValueError(f"{what}: {height} rows and {width} columns, expected at least 1")
    return height, width
