"""Masks of an image by prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import Embedding, Segmenter
from samara.compat._decoding import decode
from samara.compat._frames import pair, scaled_size
from samara.compat._images import embed_scaled, rgb
from samara.compat._tensors import Array, like, numbers, tensor_among, tensor_if_loaded, to_numpy

from .modeling import Sam
from .modeling.sam import check_input_size
from .utils.transforms import ResizeLongestSide


class SamPredictor:
    """Embeds an image once, and answers any number of prompts from it.

    Parameters
    ----------
    sam_model : Sam

    Attributes
    ----------
    model : Sam
    transform : ResizeLongestSide
    is_image_set : bool
    original_size : tuple of int
        Height and width of the image.
    input_size : tuple of int
        Height and width of the scaled image.
    """

    # On the class, for subclasses whose `__init__` does not call this one.
    model: Sam
    transform: ResizeLongestSide
    is_image_set: bool = False
    original_size: Any = None
    input_size: Any = None
    _features: Any = None
    _embedding: Embedding | None = None

    def __init__(self, sam_model: Sam) -> None:
        super().__init__()
        _segmenter(sam_model)
        self.model = sam_model
        self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)
        self.reset_image()

    @property
    def features(self) -> Array:
        """The embedding of the image, of shape (1, 256, 64, 64); it may be set to one that was kept."""
        if self._features is None and self._embedding is not None:
            self._features = tensor_if_loaded(self._embedding.features)
        return self._features

    @features.setter
    def features(self, features: Array) -> None:
        self._features, self._embedding = features, None

    @property
    def device(self) -> Any:
        """The device of the model."""
        return self.model.device

    def set_image(self, image: NDArray[np.uint8], image_format: str = "RGB") -> None:
        """Embeds an image.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width, 3)
        image_format : {"RGB", "BGR"}
            The order of its colours.

        Raises
        ------
        AssertionError
            There is no such format.
        ImageError
            The image has another shape or type.
        """
        if image_format not in ("RGB", "BGR"):
            raise AssertionError(f"image_format: {image_format!r}, expected 'RGB' or 'BGR'")
        pixels = rgb(image)
        if image_format != self.model.image_format:
            pixels = pixels[..., ::-1]
        self._keep(_segmenter(self.model).embed(pixels))

    def set_torch_image(self, transformed_image: Array, original_image_size: tuple[int, ...]) -> None:
        """Embeds an image that was scaled already.

        Parameters
        ----------
        transformed_image : array, shape (1, 3, h, w)
            As ``transform`` scales it, with values from 0 to 255.
        original_image_size : tuple of int
            Height and width of the image before that.

        Raises
        ------
        AssertionError
            It has another number of axes or colours, or its longest side is not the model's.
        ImageError
            Its size does not follow from the original's.
        """
        pixels = to_numpy(transformed_image)
        shape = pixels.shape
        side = self.model.image_encoder.img_size
        if len(shape) != 4 or shape[1] != 3 or max(shape[2:]) != side:
            raise AssertionError(
                f"transformed_image: shape {shape}, expected (1, 3, h, w) with a longest side of {side}"
            )
        if shape[0] != 1:
            raise ValueError(f"transformed_image: {shape[0]} images, expected one")
        size = pair(original_image_size, "original_image_size")
        self._keep(embed_scaled(_segmenter(self.model), pixels[0], size))

    def _keep(self, embedding: Embedding) -> None:
        self.reset_image()
        self._embedding = embedding
        width, height = embedding.size
        self.original_size = (height, width)
        self.input_size = scaled_size(height, width, self.model.image_encoder.img_size)
        self.is_image_set = True

    def predict(
        self,
        point_coords: NDArray[Any] | None = None,
        point_labels: NDArray[Any] | None = None,
        box: NDArray[Any] | None = None,
        mask_input: NDArray[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        """Answers one prompt.

        Parameters
        ----------
        point_coords : ndarray, shape (n, 2), optional
            Points (x, y) in pixels of the image.
        point_labels : ndarray, shape (n,), optional
            1 for a point on the object, 0 for one beside it.
        box : ndarray, shape (4,), optional
            Left, top, right and bottom.
        mask_input : ndarray, shape (1, 256, 256), optional
            Logits of an earlier answer.
        multimask_output : bool, default True
            Three masks, or one.
        return_logits : bool, default False
            Logits in the place of masks.

        Returns
        -------
        masks : ndarray of bool, or of float32, shape (c, height, width)
        scores : ndarray of float32, shape (c,)
        low_res_logits : ndarray of float32, shape (c, 256, 256)

        Raises
        ------
        RuntimeError
            No image is set.
        AssertionError
            There are points without labels.
        ValueError
            The prompt is empty or lies outside of the image, or an array has another shape.
        """
        self._require_image()
        points = labels = boxes = masks = None
        if point_coords is not None:
            if point_labels is None:
                raise AssertionError("point_labels: missing; every point needs one")
            points = numbers(point_coords, "point_coords", (None, 2))
            points = self.transform.apply_coords(points, self.original_size)[None].astype(np.float32)
            labels = numbers(point_labels, "point_labels", (None,))[None]
        if box is not None:
            boxes = self.transform.apply_boxes(_one_box(box), self.original_size).astype(np.float32)
        if mask_input is not None:
            masks = numbers(mask_input, "mask_input", (1, None, None))[None].astype(np.float32)
        answer = self.predict_torch(points, labels, boxes, masks, multimask_output, return_logits=return_logits)
        found, scores, low_res = (to_numpy(part[0]) for part in answer)
        return found, scores, low_res

    def predict_torch(
        self,
        point_coords: Array | None,
        point_labels: Array | None,
        boxes: Array | None = None,
        mask_input: Array | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Array, Array, Array]:
        """Answers a batch of prompts, which are in the frame of the scaled image (see ``transform``).

        Parameters
        ----------
        point_coords : array, shape (b, n, 2), or None
        point_labels : array, shape (b, n), or None
        boxes : array, shape (b, 4), optional
        mask_input : array, shape (b, 1, 256, 256), optional
        multimask_output, return_logits : bool
            As of :meth:`predict`.

        Returns
        -------
        masks : array, shape (b, c, height, width)
        scores : array, shape (b, c)
        low_res_logits : array, shape (b, c, 256, 256)
            Tensors of torch if the prompts are, on their device.

        Raises
        ------
        RuntimeError
            No image is set.
        ValueError
            As of :meth:`predict`.
        """
        self._require_image()
        masks, scores, low_res = decode(
            self._current_embedding(),
            point_coords,
            point_labels,
            boxes,
            mask_input,
            multimask_output=bool(multimask_output),
            threshold=None if return_logits else self.model.mask_threshold,
        )
        given = tensor_among(point_coords, boxes, mask_input, point_labels)
        return like(masks, given), like(scores, given), like(low_res, given)

    def get_image_embedding(self) -> Array:
        """The embedding of the image, of shape (1, 256, 64, 64).

        Raises
        ------
        RuntimeError
            No image is set.
        """
        self._require_image()
        if self.features is None:
            raise AssertionError("features: missing, although an image is set")
        return self.features

    def reset_image(self) -> None:
        """Forgets the image."""
        self.is_image_set = False
        self.features = None
        self.orig_h = None
        self.orig_w = None
        self.input_h = None
        self.input_w = None

    def _require_image(self) -> None:
        if not self.is_image_set:
            raise RuntimeError("no image is set; call set_image before")

    def _current_embedding(self) -> Embedding:
        """The embedding that the attributes describe, which may have been set one by one."""
        if self.original_size is None:
            raise ValueError("original_size: missing; set it with features")
        segmenter, size = _segmenter(self.model), pair(self.original_size, "original_size")
        if self.input_size is not None:
            check_input_size(self.input_size, size, self.model.image_encoder.img_size)
        kept = self._embedding
        if kept is None or kept.size != size[::-1] or kept.segmenter is not segmenter:
            if self.features is None:
                raise ValueError("features: missing, although an image is set")
            values = numbers(self.features, "features", (1, None, None, None)).astype(np.float32)
            self._embedding = kept = Embedding._from_features(segmenter, values, size[::-1])
        return kept


def _segmenter(model: Any) -> Segmenter:
    if not isinstance(model, Sam):
        raise TypeError(f"model: a {type(model).__name__}, expected a Sam of samara.compat")
    return model.segmenter


def _one_box(box: Any) -> NDArray[np.float64]:
    corners = numbers(box, "box", (4,) if to_numpy(box).ndim < 2 else (None, 4)).reshape(-1, 4)
    if len(corners) != 1:
        raise ValueError(f"box: {len(corners)} boxes, expected one; predict_torch takes several")
    return corners
