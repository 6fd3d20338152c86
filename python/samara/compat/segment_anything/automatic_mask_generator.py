"""All masks of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import MaskGenerator, MaskRecord, encode_rle
from samara.compat._images import rgb
from samara.compat._suppression import nms
from samara.compat._tensors import is_tensor, like

from .modeling import Sam
from .predictor import SamPredictor
from .utils.amg import (
    MaskData,
    batched_mask_to_box,
    build_all_layer_point_grids,
    mask_to_rle_pytorch,
    remove_small_regions,
    rle_to_mask,
)


class SamAutomaticMaskGenerator:
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
        if points_per_side is not None and point_grids is None:
            point_grids = build_all_layer_point_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)
        elif points_per_side is not None or point_grids is None:
            raise AssertionError("points_per_side and point_grids: exactly one of them is needed")
        if output_mode not in ("binary_mask", "uncompressed_rle", "coco_rle"):
            raise AssertionError(f"output_mode: {output_mode!r}, expected binary_mask, uncompressed_rle or coco_rle")
        self.predictor = SamPredictor(model)
        self.point_grids = point_grids
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode
        self._engine()

    def _engine(self) -> MaskGenerator:
        """The engine's generator with the options as they are now."""
        if self.predictor.model.mask_threshold != 0:
            raise ValueError(f"mask_threshold: {self.predictor.model.mask_threshold}, expected 0")
        return MaskGenerator(
            self.predictor.model.segmenter,
            points_per_batch=self.points_per_batch,
            pred_iou_thresh=max(self.pred_iou_thresh, 0.0),
            stability_score_thresh=max(self.stability_score_thresh, 0.0),
            stability_score_offset=self.stability_score_offset,
            box_nms_thresh=self.box_nms_thresh,
            crop_n_layers=self.crop_n_layers,
            crop_nms_thresh=self.crop_nms_thresh,
            crop_overlap_ratio=self.crop_overlap_ratio,
            crop_n_points_downscale_factor=self.crop_n_points_downscale_factor,
            point_grids=[np.asarray(grid) for grid in self.point_grids],
            min_mask_region_area=int(np.ceil(max(self.min_mask_region_area, 0))),
        )

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
        return [
            {
                "segmentation": self._segmentation(record),
                "area": record.area,
                "bbox": list(record.bbox),
                "predicted_iou": record.predicted_iou,
                "point_coords": [list(point) for point in record.point_coords],
                "stability_score": record.stability_score,
                "crop_box": list(record.crop_box),
            }
            for record in records
        ]

    def _segmentation(self, record: MaskRecord) -> Any:
        if self.output_mode == "binary_mask":
            return record.segmentation
        return record.rle if self.output_mode == "coco_rle" else encode_rle(record.rle, compressed=False)

    @staticmethod
    def postprocess_small_regions(mask_data: MaskData, min_area: int, nms_thresh: float) -> MaskData:
        """Fills small holes and drops small islands, then masks that have become alike.

        Parameters
        ----------
        mask_data : MaskData
            With ``rles`` and ``boxes``; it is changed in place.
        min_area : int
            Regions of fewer pixels are small.
        nms_thresh : float
            The IoU of boxes above which the worse mask is dropped; masks that needed no change are better.

        Returns
        -------
        MaskData
            The same.
        """
        rles = mask_data["rles"]
        if not rles:
            return mask_data
        old, masks, scores = mask_data["boxes"], [], []
        for rle in rles:
            mask, filled = remove_small_regions(rle_to_mask(rle), min_area, mode="holes")
            mask, cleared = remove_small_regions(mask, min_area, mode="islands")
            masks.append(mask)
            scores.append(0.0 if filled or cleared else 1.0)
        stack = np.stack(masks)
        boxes = batched_mask_to_box(stack)
        keep = nms(boxes.astype(np.float32), np.array(scores, np.float32), nms_thresh)
        for i in keep.tolist():
            if scores[i] == 0.0:
                rles[i] = mask_to_rle_pytorch(stack[i : i + 1])[0]
                old[i] = like(boxes[i], old) if is_tensor(old) else boxes[i]
        mask_data.filter(keep)
        return mask_data
