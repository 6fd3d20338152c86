"""Scaling of images and coordinates to the model's size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara.compat._frames import factors, pair, scaled_size
from samara.compat._resize import resize_pixels, resize_values
from samara.compat._tensors import Array, is_tensor, like, loaded_torch, to_numpy


class ResizeLongestSide:
    """Scales so that the longest side of an image becomes ``target_length``.

    Parameters
    ----------
    target_length : int
        In pixels.
    """

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scales pixels (height, width, channels) of ``uint8``, as Pillow does."""
        pixels = to_numpy(image)
        if pixels.dtype != np.uint8:
            raise TypeError(f"image: an array of {pixels.dtype}, expected uint8")
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.shape[2:] not in ((), (3,)):
            raise ValueError(f"image: an array of shape {pixels.shape}, expected (height, width, 3)")
        height, width = pixels.shape[:2]
        size = self.get_preprocess_shape(height, width, self.target_length)
        scaled: NDArray[np.uint8] = resize_pixels(pixels, size).copy()
        return scaled

    def apply_coords(self, coords: Array, original_size: tuple[int, ...]) -> Array:
        """Scales coordinates (..., 2) of an image of ``original_size`` (height, width)."""
        return like(self._scaled(coords, original_size, np.float64), coords)

    def apply_boxes(self, boxes: Array, original_size: tuple[int, ...]) -> Array:
        """Scales boxes (b, 4), given by their corners."""
        return self.apply_coords(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Array) -> Array:
        """Scales images (b, c, height, width) of floats; to a hair as :meth:`apply_image` does."""
        size = self.get_preprocess_shape(image.shape[2], image.shape[3], self.target_length)
        if not is_tensor(image):
            return resize_values(image, size)
        interpolate = loaded_torch().nn.functional.interpolate
        return interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords_torch(self, coords: Array, original_size: tuple[int, ...]) -> Array:
        """As :meth:`apply_coords`, for tensors; the result is ``float32``."""
        return like(self._scaled(coords, original_size, np.float32), coords)

    def apply_boxes_torch(self, boxes: Array, original_size: tuple[int, ...]) -> Array:
        """As :meth:`apply_boxes`, for tensors; the result is ``float32``."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def _scaled(self, coords: Array, original_size: tuple[int, ...], kind: Any) -> NDArray[Any]:
        scaled = to_numpy(coords).astype(kind)
        if scaled.shape[-1:] != (2,):
            raise ValueError(f"coords: an array of shape {scaled.shape}, expected pairs of x and y")
        x, y = factors(pair(original_size, "original_size"), self.target_length)
        scaled[..., 0] *= x
        scaled[..., 1] *= y
        return scaled

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Height and width of an image of ``oldh`` and ``oldw`` whose longest side becomes ``long_side_length``."""
        return scaled_size(oldh, oldw, long_side_length)
