"""Tools to find all masks of an image. All take NumPy arrays and tensors of torch, and give the same kind back."""

from __future__ import annotations

import math
from collections.abc import Generator, ItemsView, Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import decode_rle, encode_rle
from samara.compat._regions import label
from samara.compat._tensors import Array, is_tensor, like, loaded_torch, to_numpy

__all__ = [
    "MaskData",
    "area_from_rle",
    "batch_iterator",
    "batched_mask_to_box",
    "box_xyxy_to_xywh",
    "build_all_layer_point_grids",
    "build_point_grid",
    "calculate_stability_score",
    "coco_encode_rle",
    "generate_crop_boxes",
    "is_box_near_crop_edge",
    "mask_to_rle_pytorch",
    "remove_small_regions",
    "rle_to_mask",
    "uncrop_boxes_xyxy",
    "uncrop_masks",
    "uncrop_points",
]

Rle = dict[str, Any]
"""Run lengths: ``size``, which is ``[height, width]``, and ``counts``, by columns and starting with the background."""


class MaskData:
    """Columns of a table of masks: lists, arrays and tensors of one length.

    Parameters
    ----------
    **kwargs
        The columns by name.
    """

    def __init__(self, **kwargs: Any) -> None:
        for value in kwargs.values():
            _check_column(value)
        self._stats: dict[str, Any] = dict(kwargs)

    def __setitem__(self, key: str, item: Any) -> None:
        _check_column(item)
        self._stats[key] = item

    def __delitem__(self, key: str) -> None:
        del self._stats[key]

    def __getitem__(self, key: str) -> Any:
        return self._stats[key]

    def items(self) -> ItemsView[str, Any]:
        """The columns with their names."""
        return self._stats.items()

    def filter(self, keep: Array) -> None:
        """Keeps some rows, given by index, or by a truth value for each row."""
        rows = to_numpy(keep)
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        for name, column in self._stats.items():
            if isinstance(column, list):
                self._stats[name] = [column[i] for i in index.tolist()]
            elif column is not None:
                self._stats[name] = column[like(index, column)]

    def cat(self, new_stats: MaskData) -> None:
        """Appends rows of another table."""
        for name, column in new_stats.items():
            mine = self._stats.get(name)
            if mine is None:
                self._stats[name] = deepcopy(column)
            elif isinstance(column, list):
                self._stats[name] = mine + deepcopy(column)
            elif is_tensor(column):
                self._stats[name] = loaded_torch().cat([mine, column], dim=0)
            else:
                self._stats[name] = np.concatenate([mine, column], axis=0)

    def to_numpy(self) -> None:
        """Makes arrays of tensors."""
        for name, column in self._stats.items():
            if is_tensor(column):
                self._stats[name] = to_numpy(column)


def _check_column(value: Any) -> None:
    if not isinstance(value, (list, np.ndarray)) and not is_tensor(value):
        raise AssertionError(f"MaskData: a {type(value).__name__}, expected a list, an array or a tensor")


def is_box_near_crop_edge(boxes: Array, crop_box: Sequence[int], orig_box: Sequence[int], atol: float = 20.0) -> Array:
    """Whether boxes (n, 4) of a crop end at an edge of it, within ``atol`` pixels, that is no edge of the image."""
    corners = to_numpy(uncrop_boxes_xyxy(boxes, crop_box)).astype(np.float32)

    def near(edges: Sequence[int]) -> NDArray[np.bool_]:
        close: NDArray[np.bool_] = np.abs(corners - np.array(edges, np.float32)) <= np.float32(atol)
        return close

    return like(np.any(near(crop_box) & ~near(orig_box), axis=1), boxes)


def box_xyxy_to_xywh(box_xyxy: Array) -> Array:
    """Boxes (..., 4) as left, top, width and height; a list of four stays one."""
    box = deepcopy(box_xyxy)
    if isinstance(box, list):
        box[2:] = [box[2] - box[0], box[3] - box[1]]
    else:
        box[..., 2] -= box[..., 0]
        box[..., 3] -= box[..., 1]
    return box


def batch_iterator(batch_size: int, *args: Any) -> Generator[list[Any], None, None]:
    """Sequences of one length in parts of ``batch_size``."""
    if not args or any(len(arg) != len(args[0]) for arg in args):
        raise AssertionError("batch_iterator: sequences of one length are needed")
    for start in range(0, len(args[0]), batch_size):
        yield [arg[start : start + batch_size] for arg in args]


def mask_to_rle_pytorch(tensor: Array) -> list[Rle]:
    """Run lengths of masks (n, height, width)."""
    masks = to_numpy(tensor).astype(np.bool_)
    _, height, width = masks.shape
    rles = []
    for mask in masks:
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        counts = np.diff(changes, prepend=0, append=flat.size).tolist()
        rles.append({"size": [height, width], "counts": [0, *counts] if flat[:1].any() else counts})
    return rles


def rle_to_mask(rle: Rle) -> NDArray[np.bool_]:
    """The mask (height, width) of run lengths."""
    if isinstance(rle["counts"], (str, bytes)):
        decoded: NDArray[np.bool_] = decode_rle(rle)
        return decoded
    height, width = rle["size"]
    counts = np.asarray(rle["counts"], np.int64)
    if counts.ndim != 1 or (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"rle: the counts do not make {height} rows and {width} columns")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    mask: NDArray[np.bool_] = flat.reshape(width, height).T
    return mask


def area_from_rle(rle: Rle) -> int:
    """Number of pixels."""
    return sum(rle["counts"][1::2])


def calculate_stability_score(masks: Array, mask_threshold: float, threshold_offset: float) -> Array:
    """IoU of the masks at a higher and at a lower threshold, of logits (..., height, width)."""
    logits = to_numpy(masks)

    def count(threshold: float) -> NDArray[np.float32]:
        return np.asarray(np.count_nonzero(logits > threshold, axis=(-2, -1)), np.float32)

    inner, outer = count(mask_threshold + threshold_offset), count(mask_threshold - threshold_offset)
    with np.errstate(invalid="ignore"):
        return like(np.asarray(inner / outer), masks)


def build_point_grid(n_per_side: int) -> NDArray[np.float64]:
    """Points (n², 2) in the middle of as many cells, from 0 to 1, row by row."""
    margin = 1 / (2 * n_per_side)
    side = np.linspace(margin, 1 - margin, n_per_side)
    x, y = np.meshgrid(side, side)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def build_all_layer_point_grids(n_per_side: int, n_layers: int, scale_per_layer: int) -> list[NDArray[np.float64]]:
    """The grid of the image and of each layer of crops, which has fewer points by ``scale_per_layer``."""
    return [build_point_grid(int(n_per_side / scale_per_layer**layer)) for layer in range(n_layers + 1)]


def generate_crop_boxes(
    im_size: tuple[int, ...], n_layers: int, overlap_ratio: float
) -> tuple[list[list[int]], list[int]]:
    """The image and its crops as corners, with the layer of each; layer ``n`` has ``4 ** n`` crops.

    Parameters
    ----------
    im_size : tuple of int
        Height and width.
    n_layers : int
    overlap_ratio : float
        Overlap of the crops of the first layer, as a share of the shorter side.
    """
    height, width = im_size
    boxes, layers = [[0, 0, width, height]], [0]
    for layer in range(1, n_layers + 1):
        crops = 2**layer
        overlap = int(overlap_ratio * min(height, width) * (2 / crops))
        crop_width, crop_height = (math.ceil((overlap * (crops - 1) + side) / crops) for side in (width, height))
        for column, row in product(range(crops), range(crops)):
            x, y = (crop_width - overlap) * column, (crop_height - overlap) * row
            boxes.append([x, y, min(x + crop_width, width), min(y + crop_height, height)])
            layers.append(layer)
    return boxes, layers


def uncrop_boxes_xyxy(boxes: Array, crop_box: Sequence[int]) -> Array:
    """Boxes (..., 4) of a crop in pixels of the image."""
    x, y = crop_box[:2]
    return _moved(boxes, [x, y, x, y])


def uncrop_points(points: Array, crop_box: Sequence[int]) -> Array:
    """Points (..., 2) of a crop in pixels of the image."""
    return _moved(points, list(crop_box[:2]))


def _moved(coordinates: Array, offset: list[int]) -> Array:
    values = to_numpy(coordinates)
    kind = values.dtype if values.dtype.kind == "f" else np.int64
    return like((values + np.array(offset)).astype(kind), coordinates)


def uncrop_masks(masks: Array, crop_box: Sequence[int], orig_h: int, orig_w: int) -> Array:
    """Masks (..., h, w) of a crop as masks of the image."""
    left, top, right, bottom = crop_box
    if (left, top, right, bottom) == (0, 0, orig_w, orig_h):
        return masks
    values = to_numpy(masks)
    padding = [(0, 0)] * (values.ndim - 2) + [(top, orig_h - bottom), (left, orig_w - right)]
    return like(np.pad(values, padding), masks)


def remove_small_regions(mask: NDArray[Any], area_thresh: float, mode: str) -> tuple[NDArray[Any], bool]:
    """Fills holes or drops islands of fewer pixels than ``area_thresh``.

    Parameters
    ----------
    mask : ndarray of bool, shape (height, width)
    area_thresh : float
    mode : {"holes", "islands"}

    Returns
    -------
    mask : ndarray of bool
        If all islands are small, the largest stays.
    changed : bool
    """
    if mode not in ("holes", "islands"):
        raise AssertionError(f"mode: {mode!r}, expected 'holes' or 'islands'")
    given = to_numpy(mask).astype(np.bool_)
    regions, sizes = label(~given if mode == "holes" else given)
    small = sizes < area_thresh
    if not small.any():
        return mask, False
    if mode == "islands" and small.all():
        small[np.argmax(sizes)] = False
    changed = np.concatenate([[False], small])[regions]
    return like(given ^ changed, mask), True


def coco_encode_rle(uncompressed_rle: Rle) -> Rle:
    """Run lengths with the text of ``pycocotools`` as ``counts``."""
    rle: dict[str, Any] = dict(encode_rle(uncompressed_rle))
    return rle


def batched_mask_to_box(masks: Array) -> Array:
    """Boxes (..., 4) around masks (..., height, width), by the first and last pixel; zeros for an empty mask."""
    bits = to_numpy(masks).astype(np.bool_)
    if bits.size == 0:
        return like(np.zeros((*bits.shape[:-2], 4), np.float32), masks)
    (left, right), (top, bottom) = (_ends(np.asarray(bits.any(axis=axis))) for axis in (-2, -1))
    return like(np.stack([left, top, right, bottom], axis=-1), masks)


def _ends(lines: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and last that is set of each line (..., n), or 0 and 0."""
    count = lines.shape[-1]
    first = lines.argmax(axis=-1).astype(np.int64)
    last = count - 1 - lines[..., ::-1].argmax(axis=-1).astype(np.int64)
    return first, np.where(lines.any(axis=-1), last, 0)
