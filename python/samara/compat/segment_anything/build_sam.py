"""Models from checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable

from samara import Segmenter

from .modeling import Sam

Checkpoint = str | os.PathLike[str]


def build_sam_vit_h(checkpoint: Checkpoint | None = None) -> Sam:
    """The model ViT-H of a checkpoint."""
    return load("vit_h", "sam-vit-h", checkpoint)


def build_sam_vit_l(checkpoint: Checkpoint | None = None) -> Sam:
    """The model ViT-L of a checkpoint."""
    return load("vit_l", "sam-vit-l", checkpoint)


def build_sam_vit_b(checkpoint: Checkpoint | None = None) -> Sam:
    """The model ViT-B of a checkpoint."""
    return load("vit_b", "sam-vit-b", checkpoint)


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
}


def load(key: str, architecture: str, checkpoint: Checkpoint | None) -> Sam:
    """The model of a checkpoint, which must be of this architecture.

    Parameters
    ----------
    key : str
        What the registry calls the architecture.
    architecture : str
        What :attr:`samara.Segmenter.architecture` calls it.
    checkpoint : str or path-like
        A file, or the name of a released model that was downloaded.

    Raises
    ------
    ValueError
        There is no checkpoint given.
    RuntimeError
        The checkpoint is of another architecture.
    """
    if checkpoint is None:
        raise ValueError(f"{key}: no checkpoint given, and a model of random weights finds nothing; give checkpoint=")
    segmenter = Segmenter(checkpoint, precision="fp32")
    if segmenter.architecture != architecture:
        raise RuntimeError(
            f"{os.fspath(checkpoint)}: a checkpoint of {segmenter.architecture}, and '{key}' is {architecture}"
        )
    return Sam(segmenter)
