"""What happens to images and coordinates before the model, and to masks behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara.compat._frames import pair
from samara.compat._images import rgb
from samara.compat._regions import small_regions
from samara.compat._resize import interpolate, resize_values
from samara.compat._tensors import Array, is_tensor, like, loaded_torch, numbers, tensor_if_loaded, to_numpy

FILLED = 10.0
"""How far beyond the threshold the logits of mended pixels lie."""


class SAM2Transforms:
    """Scales images to the square of the model, and masks back to the image.

    Parameters
    ----------
    resolution : int
        The side of the square, in pixels.
    mask_threshold : float
        Logits above it are on the object.
    max_hole_area, max_sprinkle_area : float, default 0
        Holes and islands of at most so many cells of the low-resolution logits are mended.
    """

    def __init__(
        self, resolution: int, mask_threshold: float, max_hole_area: float = 0.0, max_sprinkle_area: float = 0.0
    ) -> None:
        self.resolution = resolution
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.mean = [0.485, 0.456, 0.406]
        self.std = [0.229, 0.224, 0.225]

    def __call__(self, x: Any) -> Array:
        """Scales and normalises an image; the result has the shape (3, resolution, resolution)."""
        return tensor_if_loaded(self._scaled(x))

    def forward_batch(self, img_list: Sequence[Any]) -> Array:
        """As a call, for several images."""
        return tensor_if_loaded(np.stack([self._scaled(image) for image in img_list]))

    def _scaled(self, image: Any) -> NDArray[np.float32]:
        values = pixels_of(image).astype(np.float32).transpose(2, 0, 1) / np.float32(255)
        scaled = resize_values(values, (self.resolution, self.resolution))
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        normalised: NDArray[np.float32] = ((scaled - mean) / std).astype(np.float32)
        return normalised

    def transform_coords(self, coords: Array, normalize: bool = False, orig_hw: Any = None) -> Array:
        """Moves coordinates (..., 2) into the square of the model.

        Parameters
        ----------
        coords : array
        normalize : bool, default False
            They are in pixels of an image, and not shares of its width and height.
        orig_hw : tuple of int, optional
            Height and width of that image.
        """
        values = to_numpy(coords)
        if values.shape[-1:] != (2,) or values.dtype.kind not in "iuf":
            raise ValueError(f"coords: an array of {values.dtype} and shape {values.shape}, expected pairs of x and y")
        values = values.astype(values.dtype if values.dtype.kind == "f" else np.float32)
        if normalize:
            if orig_hw is None:
                raise AssertionError("orig_hw: missing; coordinates in pixels need it")
            height, width = pair(orig_hw, "orig_hw")
            values = values / np.array([width, height], values.dtype)
        return like(values * values.dtype.type(self.resolution), coords)

    def transform_boxes(self, boxes: Array, normalize: bool = False, orig_hw: Any = None) -> Array:
        """As :meth:`transform_coords`, for boxes (b, 4); the result has the shape (b, 2, 2)."""
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Array, orig_hw: Any) -> Array:
        """Scales low-resolution logits (b, c, h, w) to the size of the image, after they were mended."""
        logits = numbers(masks, "masks", (None, None, None, None)).astype(np.float32)
        logits = self.mended(logits)
        size = pair(orig_hw, "orig_hw")
        if is_tensor(masks):
            torch = loaded_torch()
            return torch.nn.functional.interpolate(like(logits, masks), size, mode="bilinear", align_corners=False)
        return interpolate(logits, size)

    def mended(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fills small holes and drops small islands of logits (..., h, w)."""
        if self.max_hole_area <= 0 and self.max_sprinkle_area <= 0:
            return logits
        mended: NDArray[np.float32] = logits.copy()
        for index in np.ndindex(logits.shape[:-2]):
            inside = logits[index] > self.mask_threshold
            if self.max_hole_area > 0:
                mended[index][small_regions(~inside, self.max_hole_area)] = self.mask_threshold + FILLED
            if self.max_sprinkle_area > 0:
                mended[index][small_regions(inside, self.max_sprinkle_area)] = self.mask_threshold - FILLED
        return mended


def pixels_of(image: Any) -> NDArray[np.uint8]:
    """Pixels ``[height, width, 3]`` of an array, or of an image of Pillow.

    Raises
    ------
    NotImplementedError
        This is neither.
    ImageError
        The array has another shape or type.
    """
    convert = getattr(image, "convert", None)
    if convert is not None and hasattr(image, "getbands"):
        return rgb(np.asarray(convert("RGB")))
    if not isinstance(image, np.ndarray):
        raise NotImplementedError(f"image: a {type(image).__name__}, expected an array or an image of Pillow")
    return rgb(image)
