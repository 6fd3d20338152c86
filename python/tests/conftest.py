"""What the tests share: a picture with a disc, and the embedded model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import samara


def picture() -> NDArray[np.uint8]:
    """A bright disc of radius 40 around (120, 80) on a dark ground."""
    y, x = np.mgrid[:160, :240]
    image = np.full((160, 240, 3), (30, 60, 90), dtype=np.uint8)
    image[(x - 120) ** 2 + (y - 80) ** 2 < 1600] = (220, 60, 30)
    return image


def disc() -> NDArray[np.bool_]:
    """Where the disc is."""
    y, x = np.mgrid[:160, :240]
    inside: NDArray[np.bool_] = (x - 120) ** 2 + (y - 80) ** 2 < 1600
    return inside


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max((a | b).sum(), 1))


@pytest.fixture(scope="session")
def segmenter() -> samara.Segmenter:
    return samara.Segmenter()


@pytest.fixture(scope="session")
def embedding(segmenter: samara.Segmenter) -> samara.Embedding:
    return segmenter.embed(picture())
