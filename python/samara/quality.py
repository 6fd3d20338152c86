"""How good masks are that someone else made: another model, an annotator, a thresholded attention map."""

from __future__ import annotations

from samara._samara import MaskQuality, assess

__all__ = ["MaskQuality", "assess"]
