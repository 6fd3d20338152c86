"""All masks of an image."""

from __future__ import annotations

from samara.compat.segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator

__all__ = ["SamAutomaticMaskGenerator"]
