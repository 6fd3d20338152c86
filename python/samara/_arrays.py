"""What the engine takes, made from what people have: arrays, tensors, pictures."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara._samara import Candidate, Selection
from samara.errors import ImageError, OptionError, PromptError


def rgb(image: Any) -> NDArray[np.uint8]:
    """Pixels as a contiguous array ``[height, width, 3]``; transparent ones lie over white."""
    convert = getattr(image, "convert", None)
    if convert is not None and hasattr(image, "getbands"):
        if image.mode.startswith("I;16"):
            # Pillow's conversion cuts off what is above 255; files are scaled.
            image = ((np.asarray(image, dtype=np.uint32) + 128) // 257).astype(np.uint8)
        elif image.mode in ("I", "F"):
            raise ImageError(f"image: of Pillow's mode '{image.mode}', whose range is not known; give uint8, 0 to 255")
        else:
            image = convert("RGBA" if _has_opacity(image) else "RGB")
    if hasattr(image, "read"):
        raise ImageError("image: an open file; give its path, or the bytes that read() returns")
    if isinstance(image, (bytearray, memoryview)) and memoryview(image).ndim == 1:
        raise ImageError(f"image: a {type(image).__name__}; a file in memory is given as bytes")
    array = _array(image, ImageError, "image")
    if array.dtype != np.uint8:
        raise ImageError(f"image: an array of {array.dtype}, expected uint8, 0 to 255")
    if array.size == 0:
        raise ImageError(f"image: an array of shape {array.shape} has no pixels")
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    elif array.ndim == 3 and array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.ndim == 3 and array.shape[2] == 4:
        array = _over_white(array)
    elif array.ndim != 3 or array.shape[2] != 3:
        hint = "; it seems to be (channels, height, width)" if array.ndim == 3 and array.shape[0] in (3, 4) else ""
        raise ImageError(
            f"image: an array of shape {array.shape}, expected (height, width, 3), (height, width, 4) or "
            f"(height, width){hint}"
        )
    return np.ascontiguousarray(array)


def _has_opacity(image: Any) -> bool:
    return "A" in image.getbands() or "transparency" in getattr(image, "info", {})


def _over_white(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    opacity = array[:, :, 3:].astype(np.uint32)
    mixed = (array[:, :, :3] * opacity + 255 * (255 - opacity) + 127) // 255
    return mixed.astype(np.uint8)


def bits(mask: Any) -> NDArray[np.bool_]:
    """A mask as a contiguous array ``[height, width]`` of ``bool``."""
    if isinstance(mask, (Candidate, Selection)):
        mask = mask.mask
    array = _array(mask, PromptError, "mask")
    if array.dtype == object:
        raise PromptError(f"mask: a {type(mask).__name__}, expected an array, run lengths or a file")
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise PromptError(f"mask: an array of shape {array.shape}, expected (height, width)")
    if array.dtype != np.bool_:
        if not np.issubdtype(array.dtype, np.integer):
            raise PromptError(f"mask: an array of {array.dtype}, expected bool, or float32 logits of shape (256, 256)")
        values = np.unique(array)
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise PromptError("mask: an array of several values, expected 0 and one other")
        array = array != 0
    return np.ascontiguousarray(array)


def points(points: Any) -> list[list[float]]:
    """Points as pairs of numbers; one point may stand alone."""
    array = _array(points, PromptError, "points")
    if array.size == 0:
        return []
    if array.dtype.kind not in "biuf":
        raise PromptError(f"points: an array of {array.dtype}, expected numbers")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2:
        hint = "; boxes are given as box=" if array.shape[-1:] == (4,) else ""
        raise PromptError(f"points: an array of shape {array.shape}, expected (n, 2){hint}")
    pairs: list[list[float]] = array.astype(np.float64).tolist()
    return pairs


def maps(maps: Any) -> NDArray[np.float32]:
    """Maps as an array ``[n, rows, columns]``."""
    array = _array(maps, PromptError, "maps")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        found = f"an array of {array.dtype} and shape {array.shape}"
        raise PromptError(f"maps: {found}, expected numbers (n, rows, columns)")
    return array.astype(np.float32)


def to_json(options: dict[str, Any]) -> str:
    """Options as JSON; arrays become lists, and what is None is left out."""
    options = {name: value for name, value in options.items() if value is not None}

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError

    try:
        return json.dumps(options, default=plain, allow_nan=False)
    except (TypeError, ValueError):
        raise OptionError(f"options: a value that is no number, text or list: {_short(options)}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _array(value: Any, error: type[Exception], what: str) -> NDArray[Any]:
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as cause:
        raise error(f"{what}: cannot be read as an array: {_short(str(cause))}") from None
