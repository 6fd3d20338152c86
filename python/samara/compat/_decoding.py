"""Prompts in batches, in the frame of the model, and their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import Embedding, Prompt
from samara.compat._frames import onto_image, to_original
from samara.compat._tensors import numbers, to_numpy

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
    prompts = prompts_of(embedding, point_coords, point_labels, boxes, mask_input)
    low_res, scores = answers(embedding, prompts, multimask_output)
    masks = full_size(embedding, low_res.reshape(-1, *low_res.shape[2:]), threshold)
    return masks.reshape(*scores.shape, *masks.shape[1:]), scores, low_res


def answers(
    embedding: Embedding, prompts: list[Prompt], multimask_output: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Low-resolution logits ``[b, c, side, side]`` and scores ``[b, c]`` of any number of prompts."""
    if prompts:
        return embedding._decode(prompts, multimask_output)
    count = 3 if multimask_output else 1
    side = embedding.segmenter.input_size // 4
    return np.zeros((0, count, side, side), np.float32), np.zeros((0, count), np.float32)


def full_size(embedding: Embedding, logits: NDArray[np.float32], threshold: float | None) -> NDArray[Any]:
    """Logits ``[n, side, side]`` as masks of the image's size, or as logits of it."""
    if threshold == 0:
        masks: NDArray[np.bool_] = embedding._masks(logits)
        return masks
    full: NDArray[np.float32] = embedding._full_logits(logits)
    return full if threshold is None else full > threshold


def prompts_of(embedding: Embedding, point_coords: Any, point_labels: Any, boxes: Any, mask_input: Any) -> list[Prompt]:
    """A prompt for each row of the batch."""
    size = embedding.size[::-1]
    longest = embedding.segmenter.input_size
    points = labels = corners = masks = None
    if point_coords is not None:
        points = onto_image(to_original(numbers(point_coords, "point_coords", (None, None, 2)), size, longest), size)
        labels = _labels(point_labels, points.shape[:2])
    if boxes is not None:
        corners = to_original(_boxes(boxes).reshape(-1, 2, 2), size, longest).reshape(-1, 4)
    if mask_input is not None:
        masks = square_logits(mask_input)
    return assemble(points, labels, corners, masks)


def assemble(points: Any, labels: Any, corners: Any, masks: Any) -> list[Prompt]:
    """A prompt for each row of the batch, in pixels of the image.

    Parameters
    ----------
    points, labels : sequences of arrays (n, 2) and (n,), or None
    corners : sequence of boxes (4,) or None, or None
    masks : ndarray, shape (b, side, side), or None
        Logits; one for all may be given.
    """
    count = _batch_size(points, corners, masks)
    if masks is not None and len(masks) == 1:
        masks = np.repeat(masks, count, axis=0)
    return [
        Prompt(
            None if points is None else points[i],
            None if labels is None else labels[i],
            box=None if corners is None else corners[i],
            mask=None if masks is None else masks[i],
        )
        for i in range(count)
    ]


def _labels(point_labels: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if point_labels is None:
        raise ValueError("point_labels: missing; every point needs one")
    labels = numbers(point_labels, "point_labels", (None, None))
    if labels.shape != shape:
        raise ValueError(f"point_labels: an array of shape {labels.shape} for points of shape {(*shape, 2)}")
    if (labels == -1).any():
        raise ValueError("point_labels: -1, for padding, is not offered; ask prompts of several lengths one by one")
    return labels


def _boxes(boxes: Any) -> NDArray[np.float64]:
    shape = to_numpy(boxes).shape
    if len(shape) == 3:
        return numbers(boxes, "boxes", (None, 1, 4))[:, 0]
    return numbers(boxes, "boxes", (None, 4))


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
