"""``SamAutomaticMaskGenerator`` beside the official one."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .beside import Pair, assert_numbers_agree

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"points_per_side": 8},
    "crops": {"points_per_side": 8, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
    "small regions": {"points_per_side": 8, "min_mask_region_area": 200, "stability_score_thresh": 0.8},
    "grids": {"points_per_side": None, "point_grids": [np.array([[0.5, 0.5], [0.2, 0.8]])], "points_per_batch": 1}
    | {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5, "box_nms_thresh": 0.9},
    "run lengths": {"points_per_side": 4, "output_mode": "uncompressed_rle"},
    "coco": {"points_per_side": 4, "output_mode": "coco_rle"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_generate(pair: Pair, photo: NDArray[np.uint8], name: str) -> None:
    options = dict(OPTIONS[name])
    if pair.key == "vit_b":
        if name not in ("grids", "coco"):
            pytest.skip("random weights find noise, slowly; two cases show that they are the same noise")
        options |= {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    if options.get("output_mode") == "coco_rle":
        pytest.importorskip("pycocotools", reason="the official package needs it")
    if "min_mask_region_area" in options:
        pytest.importorskip("cv2", reason="the official package needs it")
    theirs = pair.theirs.SamAutomaticMaskGenerator(pair.their_sam, **deepcopy(options)).generate(photo)
    mine = pair.mine.SamAutomaticMaskGenerator(pair.my_sam, **options).generate(photo)
    print(f"{len(mine)} masks")
    assert len(mine) == len(theirs) > 0
    for found, expected in zip(mine, theirs, strict=True):
        assert list(found) == list(expected)
        assert_records_agree(found, expected)


def assert_records_agree(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in theirs:
        assert type(mine[name]) is type(theirs[name]), name
    # The official numbers of `bbox` are floats if a batch of points found nothing, else integers.
    assert all(type(side) is int for name in ("bbox", "crop_box") for side in mine[name])
    assert mine["point_coords"] == pytest.approx(np.array(theirs["point_coords"]))
    assert [type(x) for x in mine["point_coords"][0]] == [float, float]
    assert mine["crop_box"] == theirs["crop_box"]
    assert mine["bbox"] == pytest.approx(theirs["bbox"], abs=1)
    assert mine["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-3)
    assert mine["stability_score"] == pytest.approx(theirs["stability_score"], abs=1e-3)
    assert mine["area"] == pytest.approx(theirs["area"], rel=1e-3, abs=2)
    a, b = bits(mine["segmentation"]), bits(theirs["segmentation"])
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    iou = (a & b).sum() / (a | b).sum()
    print(f"IoU {iou:.6f}")
    assert iou >= 0.999 or (a ^ b).sum() <= 1


def bits(segmentation: Any) -> NDArray[np.bool_]:
    if isinstance(segmentation, np.ndarray):
        return segmentation
    assert list(segmentation) == ["size", "counts"]
    if isinstance(segmentation["counts"], str):
        from pycocotools import mask

        return mask.decode(segmentation).astype(bool)
    from samara.compat.segment_anything.utils.amg import rle_to_mask

    return rle_to_mask(segmentation)


@pytest.mark.parametrize("tensors", [False, True])
def test_postprocess_small_regions(tensors: bool) -> None:
    from samara.compat import segment_anything as mine

    from .beside import official

    theirs = official("segment_anything")
    pytest.importorskip("cv2", reason="the official package needs it")
    import torch

    random = np.random.default_rng(3)
    masks = np.zeros((5, 60, 80), bool)
    masks[:, 10:50, 10:60] = True
    masks[1] ^= random.random((60, 80)) < 0.03
    masks[2, 20:24, 20:24] = False
    masks[3] = random.random((60, 80)) < 0.02
    masks[4, 10:30, 70:78] = True
    results = []
    for package in (mine, theirs):
        amg = package.utils.amg
        boxes = amg.batched_mask_to_box(torch.as_tensor(masks))
        data = amg.MaskData(rles=amg.mask_to_rle_pytorch(torch.as_tensor(masks)), boxes=boxes, scores=torch.arange(5))
        if not tensors:
            data.to_numpy()
        assert package.SamAutomaticMaskGenerator.postprocess_small_regions(data, 30, 0.7) is data
        results.append(dict(data.items()))
    found, expected = results
    assert found["rles"] == expected["rles"]
    for name in ("boxes", "scores"):
        assert_numbers_agree(found[name], expected[name], 0)
