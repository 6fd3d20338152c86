"""Promptable segmentation: an image and a click, a box or a rough mask in, three candidate masks out.

>>> import numpy as np, samara
>>> segmenter = samara.Segmenter()
>>> image = np.zeros((64, 96, 3), dtype=np.uint8)
>>> image[16:48, 24:72] = 255
>>> candidates = segmenter.embed(image).predict([48, 32])
>>> candidates.masks.shape
(3, 64, 96)
"""

from __future__ import annotations

from samara import _interpreter, attention, quality  # noqa: F401
from samara._samara import (
    Candidate,
    Candidates,
    Embedding,
    FrameMasks,
    Hierarchy,
    MaskGenerator,
    MaskRecord,
    Node,
    ObjectMask,
    Prompt,
    Segmenter,
    Selection,
    VideoSession,
    __version__,
    decode_rle,
    download,
    encode_rle,
    polygons,
)
from samara.errors import (
    CancelledError,
    CheckpointError,
    DeviceError,
    ImageError,
    OptionError,
    PromptError,
    SamaraError,
    SavedError,
    VideoError,
)

__all__ = [
    "Candidate",
    "Candidates",
    "CancelledError",
    "CheckpointError",
    "DeviceError",
    "Embedding",
    "FrameMasks",
    "Hierarchy",
    "ImageError",
    "MaskGenerator",
    "MaskRecord",
    "Node",
    "ObjectMask",
    "OptionError",
    "Prompt",
    "PromptError",
    "SamaraError",
    "SavedError",
    "Segmenter",
    "Selection",
    "VideoError",
    "VideoSession",
    "__version__",
    "attention",
    "decode_rle",
    "download",
    "encode_rle",
    "polygons",
    "quality",
]
