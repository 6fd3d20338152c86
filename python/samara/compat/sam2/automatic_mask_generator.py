"""All masks of an image."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from samara import MaskGenerator
from samara.compat._generator import AutomaticMaskGenerator
from samara.compat._images import rgb
from samara.compat._suppression import nms
from samara.compat._tensors import Array, is_tensor, loaded_torch

from .modeling.sam2_base import SAM2Base, segmenter_of
from .sam2_image_predictor import SAM2ImagePredictor
from .utils.amg import (
    MaskData,
    area_from_rle,
    batch_iterator,
    batched_mask_to_box,
    box_xyxy_to_xywh,
    calculate_stability_score,
    coco_encode_rle,
    generate_crop_boxes,
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    rle_to_mask,
    uncrop_boxes_xyxy,
    uncrop_masks,
    uncrop_points,
)

Generator = TypeVar("Generator", bound="SAM2AutomaticMaskGenerator")


class SAM2AutomaticMaskGenerator(AutomaticMaskGenerator):
    """Finds all masks of images by a grid of points.

    Parameters
    ----------
    model : SAM2Base
    points_per_side : int or None, default 32
        Points along a side of the image; None if ``point_grids`` says where they are.
    points_per_batch : int, default 64
    pred_iou_thresh : float, default 0.8
        Masks are dropped whose predicted IoU is not above it.
    stability_score_thresh : float, default 0.95
        Masks are dropped whose stability is below it.
    stability_score_offset : float, default 1.0
        How far the threshold of the logits is moved to see how stable a mask is.
    mask_threshold : float, default 0
        Logits above it are on the object.
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
        Holes and islands of fewer pixels are mended. The official package does this for SAM 1; here it does not, or
        only with its CUDA extension and at the size of the low-resolution logits.
    output_mode : {"binary_mask", "uncompressed_rle", "coco_rle"}
    use_m2m : bool, default False
        Gives each mask back to the model, with its point, and keeps the second answer.
    multimask_output : bool, default True
        Three masks for each point, or one.
    **kwargs
        Of no effect.

    Raises
    ------
    AssertionError
        There are both points and grids, or neither, or there is no such mode.
    ValueError
        Another option makes no sense.
    """

    def __init__(
        self,
        model: SAM2Base,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[NDArray[Any]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
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
        self.predictor = SAM2ImagePredictor(model)
        self.mask_threshold = mask_threshold
        self.use_m2m = use_m2m
        self.multimask_output = multimask_output
        self._engine()

    @classmethod
    def from_pretrained(cls: type[Generator], model_id: str, **kwargs: Any) -> Generator:
        """The generator of a released model.

        Parameters
        ----------
        model_id : str
            Such as ``"facebook/sam2.1-hiera-tiny"``; see :func:`~samara.compat.sam2.build_sam.build_sam2_hf`.
        **kwargs
            For the model and the generator.
        """
        from .build_sam import build_sam2_hf

        return cls(build_sam2_hf(model_id, **kwargs), **kwargs)

    def _engine(self) -> MaskGenerator:
        return self._engine_of(segmenter_of(self.predictor.model), use_m2m=bool(self.use_m2m))

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
        engine, pixels = self._engine(), rgb(image)
        if self.mask_threshold != 0 or not self.multimask_output:
            return self._records(self._generate_masks(pixels))
        return [self._record(record) for record in engine.generate(pixels)]

    # What the engine's generator does not offer is done step by step.

    def _records(self, data: MaskData) -> list[dict[str, Any]]:
        def encode(rle: dict[str, Any]) -> Any:
            if self.output_mode == "binary_mask":
                return rle_to_mask(rle)
            return coco_encode_rle(rle) if self.output_mode == "coco_rle" else rle

        return [
            {
                "segmentation": encode(rle),
                "area": area_from_rle(rle),
                "bbox": box_xyxy_to_xywh(data["boxes"][i]).tolist(),
                "predicted_iou": data["iou_preds"][i].item(),
                "point_coords": [data["points"][i].tolist()],
                "stability_score": data["stability_score"][i].item(),
                "crop_box": box_xyxy_to_xywh(data["crop_boxes"][i]).tolist(),
            }
            for i, rle in enumerate(data["rles"])
        ]

    def _generate_masks(self, image: NDArray[np.uint8]) -> MaskData:
        size = image.shape[:2]
        crop_boxes, layers = generate_crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        data = MaskData()
        for crop_box, layer in zip(crop_boxes, layers, strict=True):
            data.cat(self._process_crop(image, crop_box, layer))
        if len(crop_boxes) > 1:
            x0, y0, x1, y1 = data["crop_boxes"].T
            scores = 1 / ((x1 - x0) * (y1 - y0)).astype(np.float32)
            data.filter(nms(data["boxes"], scores, self.crop_nms_thresh))
        if self.min_mask_region_area > 0:
            thresh = max(self.box_nms_thresh, self.crop_nms_thresh)
            self.postprocess_small_regions(data, self.min_mask_region_area, thresh)
        return data

    def _process_crop(self, image: NDArray[np.uint8], crop_box: list[int], layer: int) -> MaskData:
        left, top, right, bottom = crop_box
        self.predictor.set_image(image[top:bottom, left:right])
        grid = np.asarray(self.point_grids[layer]) * np.array([[right - left, bottom - top]])
        data = MaskData()
        for (points,) in batch_iterator(self.points_per_batch, grid):
            data.cat(self._process_batch(points, crop_box, image.shape[:2]))
        self.predictor.reset_predictor()
        data.filter(nms(data["boxes"], data["iou_preds"], self.box_nms_thresh))
        data["boxes"] = uncrop_boxes_xyxy(data["boxes"], crop_box)
        data["points"] = uncrop_points(data["points"], crop_box)
        data["crop_boxes"] = np.array([crop_box] * len(data["rles"]), np.int64).reshape(-1, 4)
        return data

    def _process_batch(self, points: NDArray[np.float64], crop_box: list[int], size: tuple[int, ...]) -> MaskData:
        height, width = size
        crop_size = (crop_box[3] - crop_box[1], crop_box[2] - crop_box[0])
        inside = self.predictor._transforms.transform_coords(points, normalize=True, orig_hw=crop_size)[:, None]
        labels = np.ones(inside.shape[:2])
        masks, ious, low_res = self.predictor._predict(
            inside, labels, multimask_output=self.multimask_output, return_logits=True
        )
        count = masks.shape[1]
        data = MaskData(
            masks=masks.reshape(-1, *masks.shape[2:]),
            iou_preds=ious.reshape(-1),
            points=points.astype(np.float32).repeat(count, axis=0),
        )
        if self.use_m2m:
            low_res = low_res.reshape(-1, *low_res.shape[2:])
            repeated = (inside[:, 0].repeat(count, axis=0), labels[:, 0].repeat(count))
            masks, ious = self.refine_with_m2m(*repeated, low_res, self.points_per_batch)
            data["masks"], data["iou_preds"] = masks[:, 0], ious[:, 0]
        if self.pred_iou_thresh > 0:
            data.filter(data["iou_preds"] > self.pred_iou_thresh)
        logits, offset = data["masks"], self.stability_score_offset
        data["stability_score"] = calculate_stability_score(logits, self.mask_threshold, offset)
        if self.stability_score_thresh > 0:
            data.filter(data["stability_score"] >= self.stability_score_thresh)
        data["masks"] = data["masks"] > self.mask_threshold
        data["boxes"] = batched_mask_to_box(data["masks"]).astype(np.int64)
        data.filter(~is_box_near_crop_edge(data["boxes"], crop_box, [0, 0, width, height]))
        data["rles"] = mask_to_rle_pytorch(uncrop_masks(data["masks"], crop_box, height, width))
        del data["masks"]
        return data

    def refine_with_m2m(
        self, points: Array, point_labels: Array, low_res_masks: Array, points_per_batch: int
    ) -> tuple[Array, Array]:
        """Gives masks back to the model, each with its point.

        Parameters
        ----------
        points : array, shape (n, 2)
            In the square of the model.
        point_labels : array, shape (n,)
        low_res_masks : array, shape (n, 256, 256)
        points_per_batch : int

        Returns
        -------
        masks : array of float32, shape (n, 1, height, width)
            Logits.
        scores : array of float32, shape (n, 1)
        """
        masks, scores = [], []
        for at, labels, logits in batch_iterator(points_per_batch, points, point_labels, low_res_masks):
            answer = self.predictor._predict(
                at[:, None], labels[:, None], mask_input=logits[:, None], multimask_output=False, return_logits=True
            )
            masks.append(answer[0])
            scores.append(answer[1])
        if is_tensor(points):
            torch = loaded_torch()
            return torch.cat(masks), torch.cat(scores)
        return np.concatenate(masks), np.concatenate(scores)
