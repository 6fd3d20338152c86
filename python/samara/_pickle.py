"""How models and embeddings come back from a pickle."""

from __future__ import annotations

from typing import Any

from samara._samara import Embedding, Segmenter


def segmenter(model: str, options: dict[str, Any]) -> Segmenter:
    """The model of this name or file."""
    return Segmenter(model, **options)


def embedding(data: bytes, segmenter: Segmenter) -> Embedding:
    """The embedding of these bytes."""
    return Embedding.from_bytes(data, segmenter)
