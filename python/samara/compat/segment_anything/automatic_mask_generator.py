"""All masks of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import MaskGenerator
from samara.compat._generator import AutomaticMaskGenerator
from samara.compat._images import rgb

from .modeling import Sam
from .predictor import SamPredictor


class SamAutomaticMaskGenerator(AutomaticMaskGenerator):
    """Finds all masks of images by a grid of points.

    Parameters
    ----------
    model : Sam
    points_per_side : int or None, default 32
        Points along a side of the image; None if ``point_grids`` says where they are.
    points_per_batch : int, default 64
    pred_iou_thresh : float, default 0.88
        Masks are dropped whose predicted IoU is not above it.
    stability_score_thresh : float, default 0.95
        Masks are dropped whose stability is below it.
    stability_score_offset : float, default 1.0
        How far the threshold of the logits is moved to see how stable a mask is.
    box_nms_thresh : float, default 0.7
        The IoU of boxes above which the worse mask is dropped.
    crop_n_layers : int, default 0
        Layers of crops; layer ``n`` has ``4 ** n`` of them.
    crop_nms_thresh : float, default 0.7
        As ``box_nms_thresh``, between crops.
    crop_overlap_ratio : float, default 512 / 1500
    crop_n_points_downscale_factor : int, default 1
        Points along a side are divided by this to the power of the layer.
    point_grids : list of ndarray, optional
        For each layer the points, of shape (n, 2), from 0 to 1.
    min_mask_region_area : int, default 0
        Holes and islands of fewer pixels are mended.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}

    Raises
    ------
    AssertionError
        There are both points and grids, or neither, or there is no such mode.
    ValueError
        Another option makes no sense.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        super().__init__(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
            output_mode=output_mode,
        )
        self.predictor = SamPredictor(model)
        self._engine()

    def _engine(self) -> MaskGenerator:
        if self.predictor.model.mask_threshold != 0:
            raise ValueError(f"mask_threshold: {self.predictor.model.mask_threshold}, expected 0")
        return self._engine_of(self.predictor.model.segmenter)

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Finds all masks of an image.

        Parameters
        ----------
        image : ndarray of uint8, shape (height, width, 3)

        Returns
        -------
        list of dict
            ``segmentation`` (an array, or run lengths), ``area``, ``bbox`` (left, top, width, height),
            ``predicted_iou``, ``point_coords``, ``stability_score`` and ``crop_box``.
        """
        records = self._engine().generate(rgb(image))
        self.predictor.reset_image()
        return [self._record(record) for record in records]
