"""Tools for tensors and for loading videos, which are not offered: the engine has its own."""

from typing import NoReturn

_TOOLS = ("concat_points", "fill_holes_in_mask_scores", "get_connected_components", "load_video_frames", "mask_to_box")


def __getattr__(name: str) -> NoReturn:
    if name in _TOOLS:
        raise ImportError(f"{name}: not offered by samara.compat; use the official package")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
