"""Points and boxes as the predictors of SAM 2 take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara.compat._decoding import PADDING, labelled
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


def points_of(points: Any, labels: Any) -> tuple[Pixels, Pixels]:
    """Points ``[b, n, 2]`` and labels ``[b, n]``; a single row ``[n, 2]`` is a batch of one.

    Labels are 1 on the object, 0 beside it, 2 and 3 at the corners of a box, and -1 for no point.

    Raises
    ------
    ValueError
        An array has another shape, or there is another label.
    """
    if to_numpy_or_none(points, 3) is None:
        points = numbers(points, "point_coords", (None, 2))[None]
        labels = numbers(labels, "point_labels", (None,))[None]
    return labelled(points, labels, (PADDING, 0, 1, TOP_LEFT, BOTTOM_RIGHT))


def clicks_of(points: Any, labels: Any, size: tuple[int, int], normalize: bool) -> list[Clicks]:
    """A prompt for each row of points, which are in pixels or, without ``normalize``, shares of the image's size.

    Raises
    ------
    ValueError
        As :func:`points_of`; or a corner of a box is missing, or a point is none.
    """
    xy, marks = points_of(points, labels)
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
    if (labels == PADDING).any():
        raise ValueError("point_labels: -1 stands for no point, which a video has no use for; leave it out")
    first, last = np.flatnonzero(labels == TOP_LEFT), np.flatnonzero(labels == BOTTOM_RIGHT)
    if len(first) == len(last) == 0:
        return Clicks(points, labels)
    if len(first) != 1 or len(last) != 1:
        raise ValueError(f"point_labels: {len(first)} times 2 and {len(last)} times 3, expected the corners of one box")
    others = (labels != TOP_LEFT) & (labels != BOTTOM_RIGHT)
    box = np.concatenate([points[first[0]], points[last[0]]])
    return Clicks(points[others], labels[others], box)
