"""Points and boxes as the predictors of SAM 2 take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara.compat._frames import onto_image
from samara.compat._tensors import numbers, to_numpy

TOP_LEFT, BOTTOM_RIGHT = 2, 3
"""Labels of points that are the corners of a box."""

Pixels = NDArray[np.float64]


@dataclass
class Clicks:
    """One prompt, in pixels of the image."""

    points: Pixels = field(default_factory=lambda: np.zeros((0, 2)))
    labels: Pixels = field(default_factory=lambda: np.zeros(0))
    box: Pixels | None = None

    def followed_by(self, later: Clicks) -> Clicks:
        """This prompt with the points of a later one."""
        points, labels = np.concatenate([self.points, later.points]), np.concatenate([self.labels, later.labels])
        return Clicks(points, labels, self.box if later.box is None else later.box)

    def arguments(self) -> dict[str, Any]:
        """What :class:`samara.Prompt` is made of."""
        has_points = len(self.points) > 0
        return {
            "points": self.points if has_points else None,
            "labels": self.labels if has_points else None,
            "box": self.box,
        }


def clicks_of(points: Any, labels: Any, size: tuple[int, int], normalize: bool) -> list[Clicks]:
    """A prompt for each row of points ``[b, n, 2]``, or for the one row ``[n, 2]``.

    Parameters
    ----------
    points, labels : array
        Labels are 1 on the object and 0 beside it; 2 and 3 mark the corners of a box.
    size : tuple of int
        Height and width of the image.
    normalize : bool
        The points are in pixels, and not shares of the width and the height.

    Raises
    ------
    ValueError
        An array has another shape, or there is another label.
    """
    shape: tuple[int | None, ...] = (None, None) if to_numpy_or_none(points, 3) is None else (None, None, None)
    xy = numbers(points, "point_coords", (*shape[:-1], 2))
    marks = numbers(labels, "point_labels", shape[:-1])
    if marks.shape != xy.shape[:-1]:
        raise ValueError(f"point_labels: an array of shape {marks.shape} for points of shape {xy.shape}")
    if xy.ndim == 2:
        xy, marks = xy[None], marks[None]
    xy = onto_image(in_pixels(xy, size, normalize), size)
    return [_without_corners(*row) for row in zip(xy, marks, strict=True)]


def to_numpy_or_none(value: Any, ndim: int) -> NDArray[Any] | None:
    """The values as an array, if it has so many axes."""
    try:
        array = to_numpy(value)
    except (TypeError, ValueError):
        return None
    return array if array.ndim == ndim else None


def boxes_of(boxes: Any, size: tuple[int, int], normalize: bool) -> Pixels:
    """Boxes ``[b, 4]``, in pixels of the image, of any array of corners."""
    one = to_numpy_or_none(boxes, 1) is not None
    if to_numpy_or_none(boxes, 3) is not None:
        corners = numbers(boxes, "box", (None, 1, 4))
    else:
        corners = numbers(boxes, "box", (4,) if one else (None, 4))
    return in_pixels(corners.reshape(-1, 2, 2), size, normalize).reshape(-1, 4)


def in_pixels(xy: Pixels, size: tuple[int, int], normalize: bool) -> Pixels:
    """Coordinates ``[..., 2]`` in pixels; those that are shares are scaled, to four decimals."""
    if normalize:
        return xy
    scaled: Pixels = np.round(xy * np.array(size[::-1], np.float64), 4)
    return scaled


def _without_corners(points: Pixels, labels: Pixels) -> Clicks:
    """Takes a box from the points that are its corners."""
    if (labels == -1).any():
        raise ValueError("point_labels: -1, for padding, is not offered; ask prompts of several lengths one by one")
    first, last = np.flatnonzero(labels == TOP_LEFT), np.flatnonzero(labels == BOTTOM_RIGHT)
    if len(first) == len(last) == 0:
        return Clicks(points, labels)
    if len(first) != 1 or len(last) != 1:
        raise ValueError(f"point_labels: {len(first)} times 2 and {len(last)} times 3, expected the corners of one box")
    others = (labels != TOP_LEFT) & (labels != BOTTOM_RIGHT)
    box = np.concatenate([points[first[0]], points[last[0]]])
    return Clicks(points[others], labels[others], box)
