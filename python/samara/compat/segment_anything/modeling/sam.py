"""The model, as far as programs touch it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from samara import Embedding, Segmenter
from samara.compat._decoding import decode, full_size
from samara.compat._frames import pair, scaled_size
from samara.compat._images import embed_scaled
from samara.compat._tensors import Array, cpu, like, numbers, tensor_among, tensor_if_loaded, to_numpy


def _no_internals(name: str) -> str:
    return (
        f"{name}: the inside of the model is not offered; use the official package beside this one, or samara's own "
        "API with model.segmenter"
    )


class ImageEncoder:
    """Says for which size of images the model is made.

    Parameters
    ----------
    img_size : int
        The longest side of the model's input, in pixels.
    """

    def __init__(self, img_size: int) -> None:
        self.img_size = img_size

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(_no_internals("image_encoder()"))

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_no_internals(f"image_encoder.{name}"))


class Sam:
    """A model, which computes on the CPU wherever it is moved.

    Parameters
    ----------
    segmenter : samara.Segmenter
        The engine's model; any SAM that Samara knows.
    """

    mask_threshold: float = 0.0
    image_format: str = "RGB"
    training: bool = False

    def __init__(self, segmenter: Segmenter) -> None:
        if not isinstance(segmenter, Segmenter):
            raise TypeError(f"Sam: made of a samara.Segmenter, not of {type(segmenter).__name__}; see build_sam")
        if segmenter.architecture.startswith("sam2"):
            raise TypeError(f"Sam: {segmenter.name} is a SAM 2, which has other predictors")
        self.segmenter = segmenter
        self.image_encoder = ImageEncoder(segmenter.input_size)

    @property
    def device(self) -> Any:
        """Where results lie that follow no tensor: the CPU."""
        return cpu()

    @property
    def pixel_mean(self) -> Array:
        """Mean of red, green and blue, of shape (3, 1, 1)."""
        return tensor_if_loaded(np.array([123.675, 116.28, 103.53], np.float32).reshape(3, 1, 1))

    @property
    def pixel_std(self) -> Array:
        """Standard deviation of red, green and blue, of shape (3, 1, 1)."""
        return tensor_if_loaded(np.array([58.395, 57.12, 57.375], np.float32).reshape(3, 1, 1))

    def to(self, *args: Any, **kwargs: Any) -> Sam:
        """Does nothing."""
        return self

    def cpu(self) -> Sam:
        """Does nothing."""
        return self

    def cuda(self, device: Any = None) -> Sam:
        """Does nothing."""
        return self

    def eval(self) -> Sam:
        """Does nothing."""
        return self

    def train(self, mode: bool = True) -> Sam:
        """Does nothing for ``mode=False``; this model cannot be trained."""
        if mode:
            raise NotImplementedError("train: this model only answers; train with samara or the official package")
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Sam:
        """Does nothing for ``requires_grad=False``."""
        return self.train(requires_grad)

    def forward(self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool) -> list[dict[str, Array]]:
        """Answers prompts for several images.

        Parameters
        ----------
        batched_input : list of dict
            For each image ``image`` of shape (3, h, w), scaled by ``ResizeLongestSide``, ``original_size`` (height,
            width), and any of ``point_coords`` (b, n, 2) with ``point_labels`` (b, n), ``boxes`` (b, 4) and
            ``mask_inputs`` (b, 1, 256, 256), in the frame of the scaled image.
        multimask_output : bool
            Three masks for each prompt, or one.

        Returns
        -------
        list of dict
            ``masks`` (b, c, height, width), ``iou_predictions`` (b, c) and ``low_res_logits`` (b, c, 256, 256).
        """
        names = ("masks", "iou_predictions", "low_res_logits")
        outputs = []
        for record in batched_input:
            image = record["image"]
            embedding = embed_scaled(self.segmenter, image, pair(record["original_size"], "original_size"))
            prompt = [record.get(key) for key in ("point_coords", "point_labels", "boxes", "mask_inputs")]
            answer = decode(embedding, *prompt, multimask_output=bool(multimask_output), threshold=self.mask_threshold)
            given = tensor_among(image, *prompt)
            outputs.append({name: like(array, given) for name, array in zip(names, answer, strict=True)})
        return outputs

    def __call__(self, *args: Any, **kwargs: Any) -> list[dict[str, Array]]:
        """As :meth:`forward`."""
        return self.forward(*args, **kwargs)

    def postprocess_masks(self, masks: Array, input_size: Any, original_size: Any) -> Array:
        """Scales low-resolution logits (b, c, 256, 256) to the size of the image.

        Parameters
        ----------
        masks : array
        input_size : tuple of int
            Height and width of the scaled image.
        original_size : tuple of int
            Height and width of the image.

        Returns
        -------
        array
            Logits of shape (b, c, height, width).
        """
        logits = numbers(masks, "masks", (None, None, None, None)).astype(np.float32)
        size = pair(original_size, "original_size")
        side = self.image_encoder.img_size
        check_input_size(input_size, size, side)
        cells = side // 16
        blank = np.zeros((1, 256, cells, cells), np.float32)
        embedding = Embedding._from_features(self.segmenter, blank, size[::-1])
        full = full_size(embedding, logits.reshape(-1, *logits.shape[2:]), None)
        return like(full.reshape(*logits.shape[:2], *full.shape[1:]), masks)

    def preprocess(self, x: Array) -> Array:
        """Normalises the pixels of a scaled image (..., 3, h, w), and pads it to a square."""
        pixels = to_numpy(x)
        mean, std = to_numpy(self.pixel_mean), to_numpy(self.pixel_std)
        side = self.image_encoder.img_size
        height, width = pixels.shape[-2:]
        padding = [(0, 0)] * (pixels.ndim - 2) + [(0, side - height), (0, side - width)]
        return like(np.pad(((pixels - mean) / std).astype(np.float32), padding), x)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_no_internals(f"Sam.{name}"))

    def __repr__(self) -> str:
        return f"Sam({self.segmenter!r})"


def check_input_size(input_size: Any, original_size: tuple[int, int], side: int) -> None:
    """The scaled image has the size that follows from the original's.

    Raises
    ------
    ValueError
        It has another.
    """
    found, expected = pair(input_size, "input_size"), scaled_size(*original_size, side)
    if found != expected:
        raise ValueError(f"input_size: {found} for an image of {original_size}, which is scaled to {expected}")
