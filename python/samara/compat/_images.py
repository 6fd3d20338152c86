"""Images as the official packages take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import Embedding, ImageError, Segmenter
from samara.compat._frames import scaled_size
from samara.compat._tensors import to_numpy


class ImageTypeError(ImageError, TypeError):
    """Pixels of another type than ``uint8``."""


def rgb(image: Any) -> NDArray[np.uint8]:
    """Pixels ``[height, width, 3]`` of ``uint8``.

    Raises
    ------
    ImageError
        They have another shape or type; the latter is a TypeError too.
    """
    try:
        array = to_numpy(image)
    except (TypeError, ValueError):
        raise ImageError("image: cannot be read as an array") from None
    if array.dtype != np.uint8:
        raise ImageTypeError(f"image: an array of {array.dtype}, expected uint8")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(f"image: an array of shape {array.shape}, expected (height, width, 3)")
    return array


def embed_scaled(segmenter: Segmenter, image: Any, original_size: tuple[int, int]) -> Embedding:
    """The embedding of an image that was scaled already, ``[3, height, width]`` of values from 0 to 255."""
    array = to_numpy(image)
    expected = (3, *scaled_size(*original_size, segmenter.input_size))
    if array.shape != expected:
        height, width = original_size
        raise ImageError(
            f"image: an array of shape {array.shape}; one of {height} rows and {width} columns is scaled to {expected}"
        )
    pixels = np.ascontiguousarray(array.transpose(1, 2, 0), dtype=np.float32)
    return Embedding._of_scaled(segmenter, pixels, original_size[::-1])
