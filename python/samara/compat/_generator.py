"""What the automatic mask generators have in common: options that may be set at any time, and records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samara import MaskGenerator, MaskRecord, Segmenter, encode_rle
from samara.compat._amg import (
    MaskData,
    batched_mask_to_box,
    build_all_layer_point_grids,
    mask_to_rle_pytorch,
    remove_small_regions,
    rle_to_mask,
)
from samara.compat._suppression import nms
from samara.compat._tensors import is_tensor, like

MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class AutomaticMaskGenerator:
    """The options under their official names, and the engine's generator."""

    def __init__(
        self,
        *,
        points_per_side: int | None,
        points_per_batch: int,
        pred_iou_thresh: float,
        stability_score_thresh: float,
        stability_score_offset: float,
        box_nms_thresh: float,
        crop_n_layers: int,
        crop_nms_thresh: float,
        crop_overlap_ratio: float,
        crop_n_points_downscale_factor: int,
        point_grids: list[NDArray[Any]] | None,
        min_mask_region_area: int,
        output_mode: str,
    ) -> None:
        if points_per_side is not None and point_grids is None:
            point_grids = build_all_layer_point_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)
        elif points_per_side is not None or point_grids is None:
            raise AssertionError("points_per_side and point_grids: exactly one of them is needed")
        if output_mode not in MODES:
            raise AssertionError(f"output_mode: {output_mode!r}, expected {', '.join(MODES)}")
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

    def _engine_of(self, segmenter: Segmenter, *, use_m2m: bool = False) -> MaskGenerator:
        """The engine's generator with the options as they are now."""
        return MaskGenerator(
            segmenter,
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
            use_m2m=use_m2m,
        )

    def _record(self, record: MaskRecord) -> dict[str, Any]:
        """The official dictionary of a record, in the mode that is set."""
        segmentation: Any = record.segmentation if self.output_mode == "binary_mask" else record.rle
        if self.output_mode == "uncompressed_rle":
            segmentation = encode_rle(segmentation, compressed=False)
        return {
            "segmentation": segmentation,
            "area": record.area,
            "bbox": list(record.bbox),
            "predicted_iou": record.predicted_iou,
            "point_coords": [list(point) for point in record.point_coords],
            "stability_score": record.stability_score,
            "crop_box": list(record.crop_box),
        }

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
