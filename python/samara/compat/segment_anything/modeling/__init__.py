"""The model. Its parts are inside the engine, so that :class:`Sam` is all there is."""

from __future__ import annotations

from typing import Any

from .sam import Sam

__all__ = ["Sam"]

_PARTS = ("ImageEncoderViT", "MaskDecoder", "PromptEncoder", "TinyViT", "TwoWayTransformer")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        raise ImportError(f"{name}: parts of the model are not offered by samara.compat; use the official package")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
