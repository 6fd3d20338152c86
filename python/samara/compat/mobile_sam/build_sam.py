"""Models from checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from samara.compat.segment_anything.build_sam import (
    Checkpoint,
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    load,
)

from .modeling import Sam

__all__ = [
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "build_sam_vit_t",
    "sam_model_registry",
]


def build_sam_vit_t(checkpoint: Checkpoint | None = None) -> Sam:
    """The MobileSAM of a checkpoint."""
    return load("vit_t", "mobile-sam", checkpoint)


sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
    "vit_t": build_sam_vit_t,
}
