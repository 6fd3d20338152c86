"""Types of arguments that have no class of their own."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict


class Bar(Protocol):
    """A bar of tqdm."""

    def update(self, n: float, /) -> Any:
        """Moves the bar on by ``n``."""


class Rle(TypedDict):
    """COCO run lengths: ``size`` is ``[height, width]``."""

    size: list[int]
    counts: list[int] | str | bytes
