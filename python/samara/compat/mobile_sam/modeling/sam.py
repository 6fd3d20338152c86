"""The model, as far as programs touch it."""

from __future__ import annotations

from samara.compat.segment_anything.modeling.sam import Sam

__all__ = ["Sam"]
