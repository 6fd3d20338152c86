"""The model. Its parts are inside the engine, so that :class:`Sam` is all there is."""

from __future__ import annotations

from samara.compat.segment_anything.modeling import __getattr__

from .sam import Sam

__all__ = ["Sam", "__getattr__"]
