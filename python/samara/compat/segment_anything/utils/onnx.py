"""Models as ONNX graphs, which are not offered."""

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    if name == "SamOnnxModel":
        raise ImportError(f"{name}: not offered by samara.compat; use the official package to export a model")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
