"""Prompts in batches, in the frame of the model, and their answers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import Embedding, PromptError
from samara.compat._tensors import numbers, to_numpy

PADDING = -1
"""The label of a point that is none, which fills prompts of a batch up to the same length."""

Answer = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]
"""Masks ``[b, c, height, width]``, scores ``[b, c]`` and low-resolution logits ``[b, c, side, side]``."""


def decode(
    embedding: Embedding,
    point_coords: Any,
    point_labels: Any,
    boxes: Any,
    mask_input: Any,
    *,
    multimask_output: bool,
    threshold: float | None,
) -> Answer:
    """Answers prompts given as ``predict_torch`` takes them; without a threshold the masks are logits."""
    points = labels = corners = masks = None
    if point_coords is not None:
        points, labels = labelled(point_coords, point_labels, (PADDING, 0, 1))
    if boxes is not None:
        corners = numbers(boxes, "boxes", (None, 1, 4) if to_numpy(boxes).ndim == 3 else (None, 4)).reshape(-1, 4)
    if mask_input is not None:
        masks = square_logits(mask_input)
    low_res, scores = answers(embedding, points, labels, corners, masks, multimask_output)
    found = full_size(embedding, low_res.reshape(-1, *low_res.shape[2:]), threshold)
    return found.reshape(*scores.shape, *found.shape[1:]), scores, low_res


def answers(
    embedding: Embedding, points: Any, labels: Any, boxes: Any, masks: Any, multimask_output: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Low-resolution logits ``[b, c, side, side]`` and scores ``[b, c]`` of prompts in the frame of the model.

    Parameters
    ----------
    points, labels : ndarray, shapes (b, n, 2) and (b, n), or None
    boxes : ndarray, shape (b, 4), or None
    masks : ndarray, shape (b, side, side), or None
        Logits; one for all may be given.

    Warns
    -----
    UserWarning
        A point lies outside of the image: the official code answers it, and it is hardly meant.

    Raises
    ------
    PromptError
        There is nothing to answer, or a number is not finite.
    """
    _check(embedding, points, labels, boxes)
    count = _batch_size(points, boxes, masks)
    if count == 0:
        masks_each = 3 if multimask_output else 1
        side = embedding.segmenter.input_size // 4
        return np.zeros((0, masks_each, side, side), np.float32), np.zeros((0, masks_each), np.float32)
    if masks is not None and len(masks) == 1:
        masks = np.repeat(masks, count, axis=0)
    clicks = None if points is None else (points.astype(np.float32), labels.astype(np.float32))
    corners = None if boxes is None else boxes.astype(np.float32)
    return embedding._decode(clicks, corners, masks, multimask_output)


def _check(embedding: Embedding, points: Any, labels: Any, boxes: Any) -> None:
    for name, values in (("point_coords", points), ("boxes", boxes)):
        if values is not None and not np.isfinite(values).all():
            place = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            raise PromptError(f"{name}: {values[place]} at {list(place)} is not a finite number")
    if points is None:
        return
    width, height = embedding.size
    end = embedding._to_model(np.array([[width, height]], np.float64))[0]
    outside = ((points < -1) | (points > end + 1)).any(axis=-1) & (labels != PADDING)
    if outside.any():
        told = (
            f"point_coords: {outside.sum()} of {outside.size} points lie outside the image of {width}×{height} pixels"
        )
        warnings.warn(told, stacklevel=5)


def full_size(embedding: Embedding, logits: NDArray[np.float32], threshold: float | None) -> NDArray[Any]:
    """Logits ``[n, side, side]`` as masks of the image's size, or as logits of it."""
    if threshold == 0:
        masks: NDArray[np.bool_] = embedding._masks(logits)
        return masks
    full: NDArray[np.float32] = embedding._full_logits(logits)
    return full if threshold is None else full > threshold


def labelled(
    point_coords: Any, point_labels: Any, allowed: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points ``[b, n, 2]`` and their labels ``[b, n]``, each of which is one of those that are allowed.

    Raises
    ------
    ValueError, PromptError
        An array has another shape, or there is another label.
    """
    if point_labels is None:
        raise ValueError("point_labels: missing; every point needs one")
    points = numbers(point_coords, "point_coords", (None, None, 2))
    labels = numbers(point_labels, "point_labels", (None, None))
    if labels.shape != points.shape[:2]:
        raise ValueError(f"point_labels: an array of shape {labels.shape} for points of shape {points.shape}")
    others = labels[~np.isin(labels, allowed)]
    if len(others):
        raise PromptError(f"point_labels: {others[0]:g}, expected {', '.join(map(str, allowed))}")
    return points, labels


def square_logits(mask_input: Any) -> NDArray[np.float32]:
    """Logits ``[b, 1, side, side]`` of earlier answers, as ``[b, side, side]``."""
    masks = numbers(mask_input, "mask_input", (None, 1, None, None))[:, 0]
    if masks.shape[1] != masks.shape[2] or masks.shape[1] == 0:
        raise ValueError(
            f"mask_input: logits of {masks.shape[1]} rows and {masks.shape[2]} columns, expected those of an earlier "
            "answer, as many rows as columns"
        )
    return masks.astype(np.float32)


def _batch_size(points: Any, boxes: Any, masks: Any) -> int:
    given = {"point_coords": points, "boxes": boxes, "mask_input": masks}
    counts = {name: len(rows) for name, rows in given.items() if rows is not None}
    if not counts:
        return 1
    count = next(iter(counts.values()))
    for name, found in counts.items():
        if found != count and not (name == "mask_input" and found == 1):
            told = ", ".join(f"{length} {name}" for name, length in counts.items())
            raise ValueError(f"prompts: batches of several sizes: {told}")
    return count
