"""Connected regions of masks; pixels that touch at a corner are connected."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def label(mask: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """Numbers the regions of a mask ``[height, width]`` from 1, in reading order.

    Returns
    -------
    labels : ndarray of int64, shape (height, width)
        0 where the mask is not set.
    sizes : ndarray of int64, shape (n,)
        Pixels of each region.
    """
    height, width = mask.shape
    steps = np.diff(mask.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    lengths = ends - starts
    _, region = np.unique(_roots(*_touching(rows, starts, ends, width), len(rows)), return_inverse=True)
    sizes = np.bincount(region, weights=lengths).astype(np.int64)
    labels = np.zeros(height * width, np.int64)
    labels[_ranges(rows * width + starts, lengths)] = np.repeat(region + 1, lengths)
    return labels.reshape(height, width), sizes


def small_regions(mask: NDArray[np.bool_], most: float) -> NDArray[np.bool_]:
    """What of a mask ``[height, width]`` lies in regions of at most so many pixels."""
    labels, sizes = label(mask)
    small: NDArray[np.bool_] = np.concatenate([[False], sizes <= most])[labels]
    return small


def _touching(rows: Any, starts: Any, ends: Any, width: int) -> tuple[Integers, Integers]:
    """Pairs of runs, by index, that touch each other from one row to the next."""
    stride = width + 2
    below = (rows + 1) * stride
    first = np.searchsorted(rows * stride + ends, below + starts, side="left")
    last = np.searchsorted(rows * stride + starts, below + ends, side="right")
    counts = np.maximum(last - first, 0)
    return np.repeat(np.arange(len(rows)), counts), _ranges(first, counts)


def _ranges(starts: Any, lengths: Any) -> Integers:
    """``starts[0], starts[0] + 1, …`` of each length, one range after the other."""
    before = np.cumsum(lengths) - lengths
    ranges: Integers = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    return ranges


def _roots(a: Integers, b: Integers, count: int) -> Integers:
    """The lowest of the nodes that each node is connected to by the edges ``a[i]``-``b[i]``."""
    roots = np.arange(count)
    while True:
        lower = np.minimum(roots[a], roots[b])
        merged = roots.copy()
        np.minimum.at(merged, roots[a], lower)
        np.minimum.at(merged, roots[b], lower)
        while (merged != merged[merged]).any():
            merged = merged[merged]
        if (merged == roots).all():
            return roots
        roots = merged
