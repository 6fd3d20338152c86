"""The model, as far as programs touch it."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from samara import Segmenter
from samara.compat._tensors import cpu

NO_OBJ_SCORE = -1024.0
"""Logit of all pixels of an object that is not there."""

Model = TypeVar("Model", bound="SAM2Base")


class SAM2Base:
    """A model, which computes on the CPU wherever it is moved.

    Parameters
    ----------
    segmenter : samara.Segmenter
        The engine's model. Those that are no SAM 2 answer for images, and carry masks through videos without memory.

    Attributes
    ----------
    image_size : int
        The side of the square that images are scaled to, in pixels.
    """

    training: bool = False

    def __init__(self, segmenter: Segmenter) -> None:
        if not isinstance(segmenter, Segmenter):
            kind = type(segmenter).__name__
            raise TypeError(f"{type(self).__name__}: made of a samara.Segmenter, not of {kind}; see build_sam")
        self.segmenter = segmenter
        self.image_size = segmenter.input_size

    @property
    def device(self) -> Any:
        """Where results lie: the CPU."""
        return cpu()

    def to(self: Model, *args: Any, **kwargs: Any) -> Model:
        """Does nothing."""
        return self

    def cpu(self: Model) -> Model:
        """Does nothing."""
        return self

    def cuda(self: Model, device: Any = None) -> Model:
        """Does nothing."""
        return self

    def float(self: Model) -> Model:
        """Does nothing."""
        return self

    def eval(self: Model) -> Model:
        """Does nothing."""
        return self

    def train(self: Model, mode: bool = True) -> Model:
        """Does nothing for ``mode=False``; this model cannot be trained."""
        if mode:
            raise NotImplementedError("train: this model only answers; train with samara or the official package")
        return self

    def requires_grad_(self: Model, requires_grad: bool = True) -> Model:
        """Does nothing for ``requires_grad=False``."""
        return self.train(requires_grad)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(self._no_internals("()"))

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self._no_internals(f".{name}"))

    def _no_internals(self, name: str) -> str:
        return (
            f"{type(self).__name__}{name}: the inside of the model is not offered; use the official package beside "
            "this one, or samara's own API with model.segmenter"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.segmenter!r})"


def segmenter_of(model: Any) -> Segmenter:
    """The engine's model.

    Raises
    ------
    TypeError
        This is no model of :mod:`samara.compat`.
    """
    if not isinstance(model, SAM2Base):
        raise TypeError(f"model: a {type(model).__name__}, expected a SAM2Base of samara.compat")
    return model.segmenter
