"""Which level of an object attention maps look at: the whole, a part or a subpart."""

from __future__ import annotations

from samara._samara import levels

__all__ = ["levels"]
