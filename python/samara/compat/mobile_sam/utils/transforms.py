"""Scaling of images and coordinates to the model's size."""

from __future__ import annotations

from samara.compat.segment_anything.utils.transforms import ResizeLongestSide

__all__ = ["ResizeLongestSide"]
