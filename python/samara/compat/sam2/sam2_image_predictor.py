"""Masks of an image by prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samara import Embedding
from samara.compat._clicks import boxes_of, in_pixels, points_of, to_numpy_or_none
from samara.compat._decoding import answers, full_size, square_logits
from samara.compat._tensors import Array, like, numbers, tensor_among, tensor_if_loaded

from .modeling.sam2_base import SAM2Base, segmenter_of
from .utils.transforms import SAM2Transforms, pixels_of

Answer = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Masks or their logits ``[b, c, height, width]``, scores ``[b, c]``, low-resolution logits ``[b, c, side, side]``."""
Size = tuple[int, int]

LIMIT = 32.0
"""Low-resolution logits are handed over between this and its negative."""

Predictor = TypeVar("Predictor", bound="SAM2ImagePredictor")


class SAM2ImagePredictor:
    """Embeds an image, or several, once, and answers any number of prompts from that.

    Parameters
    ----------
    sam_model : SAM2Base
    mask_threshold : float, default 0
        Logits above it are on the object.
    max_hole_area, max_sprinkle_area : float, default 0
        Holes and islands of at most so many cells of the low-resolution logits are mended.
    **kwargs
        Of no effect.

    Attributes
    ----------
    model : SAM2Base
    mask_threshold : float
    """

    def __init__(
        self,
        sam_model: SAM2Base,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,
    ) -> None:
        segmenter_of(sam_model)
        self.model = sam_model
        self.mask_threshold = mask_threshold
        self._transforms = SAM2Transforms(sam_model.image_size, mask_threshold, max_hole_area, max_sprinkle_area)
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls: type[Predictor], model_id: str, **kwargs: Any) -> Predictor:
        """The predictor of a released model.

        Parameters
        ----------
        model_id : str
            Such as ``"facebook/sam2.1-hiera-tiny"``; see :func:`~samara.compat.sam2.build_sam.build_sam2_hf`.
        **kwargs
            For the model and the predictor.
        """
        from .build_sam import build_sam2_hf

        return cls(build_sam2_hf(model_id, **kwargs), **kwargs)

    @property
    def device(self) -> Any:
        """The device of the model."""
        return self.model.device

    def set_image(self, image: Any) -> None:
        """Embeds an image.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width, 3), or image of Pillow

        Raises
        ------
        NotImplementedError
            It is neither.
        ImageError
            The array has another shape or type.
        """
        self.reset_predictor()
        self._keep([segmenter_of(self.model).embed(pixels_of(image))])

    def set_image_batch(self, image_list: list[NDArray[np.uint8]]) -> None:
        """Embeds images for :meth:`predict_batch`.

        Parameters
        ----------
        image_list : list of ndarray of uint8, shape (height, width, 3)

        Raises
        ------
        AssertionError
            This is no list of arrays.
        ImageError
            An array has another shape or type.
        """
        self.reset_predictor()
        if not isinstance(image_list, list) or not all(isinstance(image, np.ndarray) for image in image_list):
            raise AssertionError("image_list: expected a list of arrays")
        if not image_list:
            raise ValueError("image_list: there is no image")
        self._keep(segmenter_of(self.model).embed_batch([pixels_of(image) for image in image_list]))
        self._is_batch = True

    def _keep(self, embeddings: list[Embedding]) -> None:
        self._embeddings = embeddings
        self._orig_hw: list[Size] | None = [embedding.size[::-1] for embedding in embeddings]
        self._is_image_set = True

    def predict(
        self,
        point_coords: Array | None = None,
        point_labels: Array | None = None,
        box: Array | None = None,
        mask_input: Array | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Answer:
        """Answers one prompt, or a batch of them.

        Parameters
        ----------
        point_coords : array, shape (n, 2) or (b, n, 2), optional
            Points (x, y) in pixels of the image.
        point_labels : array, shape (n,) or (b, n), optional
            1 for a point on the object, 0 for one beside it; 2 and 3 for the corners of a box.
        box : array, shape (4,) or (b, 4), optional
            Left, top, right and bottom.
        mask_input : array, shape (1, 256, 256) or (b, 1, 256, 256), optional
            Logits of an earlier answer.
        multimask_output : bool, default True
            Three masks, or one.
        return_logits : bool, default False
            Logits in the place of masks.
        normalize_coords : bool, default True
            Coordinates are in pixels; otherwise they are shares of the image's width and height.

        Returns
        -------
        masks : ndarray of float32, shape (c, height, width)
            1 on the object, 0 elsewhere.
        scores : ndarray of float32, shape (c,)
        low_res_logits : ndarray of float32, shape (c, 256, 256)
            Of several prompts, all three have an axis for them in front.

        Raises
        ------
        RuntimeError
            No image is set.
        AssertionError
            There are points without labels.
        ValueError
            The prompt is empty or lies outside of the image, or an array has another shape.
        """
        self._require_image("set_image")
        prompt = (point_coords, point_labels, box, mask_input)
        return self._one(-1, *prompt, multimask_output, return_logits, normalize_coords)

    def predict_batch(
        self,
        point_coords_batch: Sequence[Array] | None = None,
        point_labels_batch: Sequence[Array] | None = None,
        box_batch: Sequence[Array] | None = None,
        mask_input_batch: Sequence[Array] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Answers prompts for each of the images of :meth:`set_image_batch`.

        Parameters
        ----------
        point_coords_batch, point_labels_batch, box_batch, mask_input_batch : list of array, optional
            For each image what :meth:`predict` takes.
        multimask_output, return_logits, normalize_coords : bool
            As of :meth:`predict`.

        Returns
        -------
        masks, scores, low_res_logits : list of ndarray
            For each image what :meth:`predict` gives.

        Raises
        ------
        AssertionError
            The images were not set by :meth:`set_image_batch`, or as of :meth:`predict`.
        ValueError
            There are prompts for another number of images, or as of :meth:`predict`.
        """
        if not self._is_batch:
            raise AssertionError("predict_batch: no images are set; call set_image_batch before")
        self._require_image("set_image_batch")
        given = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        count = len(self._embeddings)
        for name, batch in given.items():
            if batch is not None and len(batch) != count:
                raise ValueError(f"{name}: {len(batch)} prompts for {count} images")
        found = []
        for i in range(count):
            points, labels, box, mask = (None if batch is None else batch[i] for batch in given.values())
            found.append(self._one(i, points, labels, box, mask, multimask_output, return_logits, normalize_coords))
        masks, scores, low_res = (list(part) for part in zip(*found, strict=True))
        return masks, scores, low_res

    def _one(
        self,
        img_idx: int,
        point_coords: Any,
        point_labels: Any,
        box: Any,
        mask_input: Any,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Answer:
        """Answers prompts for one of the images, with the axis of a single one taken away."""
        if mask_input is not None and to_numpy_or_none(mask_input, 4) is None:
            mask_input = numbers(mask_input, "mask_input", (1, None, None))[None]
        prompt = (point_coords, point_labels, box, mask_input)
        answer = self._answer(img_idx, *prompt, multimask_output, return_logits, normalize_coords)
        masks, scores, low_res = (part[0] if len(part) == 1 else part for part in answer)
        return masks.astype(np.float32), scores, low_res

    def _answer(
        self,
        img_idx: int,
        point_coords: Any,
        point_labels: Any,
        boxes: Any,
        mask_input: Any,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        embedding = self._embeddings[img_idx]
        height, width = embedding.size[::-1]
        points = labels = corners = masks = None
        if point_coords is not None:
            if point_labels is None:
                raise AssertionError("point_labels: missing; every point needs one")
            points, labels = points_of(point_coords, point_labels)
            pixels = in_pixels(points, (height, width), normalize_coords)
            points = embedding._to_model(pixels.reshape(-1, 2)).reshape(points.shape)
        if boxes is not None:
            pixels = boxes_of(boxes, (height, width), normalize_coords)
            corners = embedding._to_model(pixels.reshape(-1, 2)).reshape(-1, 4)
        if mask_input is not None:
            masks = square_logits(mask_input)
        low_res, scores = answers(embedding, points, labels, corners, masks, bool(multimask_output))
        mended = self._transforms.mended(low_res).reshape(-1, *low_res.shape[2:])
        full = full_size(embedding, mended, None if return_logits else self.mask_threshold)
        return full.reshape(*scores.shape, height, width), scores, np.clip(low_res, -LIMIT, LIMIT)

    def _predict(
        self,
        point_coords: Array | None,
        point_labels: Array | None,
        boxes: Array | None = None,
        mask_input: Array | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        img_idx: int = -1,
    ) -> tuple[Array, Array, Array]:
        """Answers a batch of prompts in the square of the model, see ``_transforms``; tensors in, tensors out."""
        self._require_image("set_image")
        given = tensor_among(point_coords, boxes, mask_input, point_labels)
        if point_coords is not None:
            point_coords = numbers(point_coords, "point_coords", (None, None, 2)) / self.model.image_size
        if boxes is not None:
            boxes = numbers(boxes, "boxes", (None, 2, 2)).reshape(-1, 4) / self.model.image_size
        prompt = (point_coords, point_labels, boxes, mask_input)
        answer = self._answer(img_idx, *prompt, multimask_output, return_logits, False)
        masks, scores, low_res = (like(part, given) for part in answer)
        return masks, scores, low_res

    def get_image_embedding(self) -> Array:
        """The embedding of each image, of shape (b, 256, 64, 64).

        Raises
        ------
        RuntimeError
            No image is set.
        """
        self._require_image("set_image")
        return tensor_if_loaded(np.concatenate([embedding.features for embedding in self._embeddings]))

    def reset_predictor(self) -> None:
        """Forgets the images."""
        self._is_image_set = False
        self._embeddings = []
        self._orig_hw = None
        self._is_batch = False

    def _require_image(self, setter: str) -> None:
        if not self._is_image_set:
            raise RuntimeError(f"no image is set; call {setter} before")
