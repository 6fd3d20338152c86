"""Segmentation of many pictures on a Ray cluster: an actor for Ray Data, and ``python -m samara.ray INPUT OUTPUT``.

Needs the extra ``ray``, as of ``pip install "./python[ray]"``.
"""

from __future__ import annotations

try:
    from samara.ray._segment import Segment
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in ("ray", "pyarrow", "fsspec"):
        raise
    raise ModuleNotFoundError(f'{missing.name} is missing: pip install "samara[ray]"', name=missing.name) from None

__all__ = ["Segment"]
