"""Masks of an image by prompts."""

from __future__ import annotations

from samara.compat.segment_anything.predictor import SamPredictor

__all__ = ["SamPredictor"]
