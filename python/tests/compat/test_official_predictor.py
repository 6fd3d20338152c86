"""``SamPredictor`` and ``Sam`` beside the official ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from .beside import Pair, assert_masks_agree, assert_numbers_agree

POINT = np.array([[300, 200]])
POINTS = np.array([[300, 200], [60.5, 350.25]])
BOX = np.array([130, 40, 470, 330])

PROMPTS: dict[str, dict[str, Any]] = {
    "point": {"point_coords": POINT, "point_labels": np.array([1])},
    "negative point": {"point_coords": POINTS, "point_labels": np.array([1, 0])},
    "padding": {"point_coords": POINTS, "point_labels": np.array([1, -1])},
    "nothing but padding": {"point_coords": POINT, "point_labels": np.array([-1]), "box": BOX},
    "outside": {"point_coords": np.array([[300, 200], [-40, 520]]), "point_labels": np.array([1, 0])},
    "box": {"box": BOX},
    "box outside": {"box": np.array([700, 500, 900, 600])},
    "box of no area": {"box": np.array([300, 200, 300, 200])},
    "box beyond the edge": {"box": np.array([-4.0, 40, 601.5, 330])},
    "box as a row": {"box": BOX[None].astype(np.float32)},
    "box and points": {"point_coords": POINTS, "point_labels": np.array([1, 0]), "box": BOX},
}


def agree(mine: Any, theirs: Any, logits: bool = False) -> None:
    if logits:
        assert_numbers_agree(mine[0], theirs[0], 2e-2)
    else:
        assert_masks_agree(mine[0], theirs[0])
    assert_numbers_agree(mine[1], theirs[1], 1e-3)
    assert_numbers_agree(mine[2], theirs[2], 2e-2)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("name", PROMPTS)
def test_predict(pair: Pair, name: str, multimask: bool) -> None:
    prompt = PROMPTS[name]
    mine = pair.my_predictor.predict(**prompt, multimask_output=multimask)
    agree(mine, pair.their_predictor.predict(**prompt, multimask_output=multimask))


def test_predict_by_position_with_a_mask_as_logits(pair: Pair) -> None:
    first = pair.their_predictor.predict(POINT, np.array([1]))
    mask = first[2][np.argmax(first[1])][None]
    for args in ((POINTS, np.array([1, 0]), None, mask, True, True), (None, None, BOX, mask, False, True)):
        agree(pair.my_predictor.predict(*args), pair.their_predictor.predict(*args), logits=True)
    agree(pair.my_predictor.predict(mask_input=mask), pair.their_predictor.predict(mask_input=mask))


def test_attributes(pair: Pair) -> None:
    mine, theirs = pair.my_predictor, pair.their_predictor
    for name in ("original_size", "input_size", "is_image_set", "device"):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert mine.transform.target_length == theirs.transform.target_length
    assert_numbers_agree(mine.features, theirs.features, 2e-3)
    assert_numbers_agree(mine.get_image_embedding(), theirs.get_image_embedding(), 2e-3)
    for name in ("mask_threshold", "image_format", "device", "training"):
        assert getattr(pair.my_sam, name) == getattr(pair.their_sam, name), name
    assert pair.my_sam.image_encoder.img_size == pair.their_sam.image_encoder.img_size
    assert_numbers_agree(pair.my_sam.pixel_mean, pair.their_sam.pixel_mean, 0)
    assert_numbers_agree(pair.my_sam.pixel_std, pair.their_sam.pixel_std, 0)


@pytest.mark.parametrize("logits", [False, True])
def test_predict_torch(pair: Pair, photo: NDArray[np.uint8], logits: bool) -> None:
    import torch

    boxes = torch.tensor([[130, 40, 470, 330], [0, 0, 599, 399], [20, 250, 200, 390]])
    points = torch.tensor([[[300, 200], [60, 350]], [[100, 100], [50, 50]], [[90, 300], [300, 30]]])
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    size = photo.shape[:2]
    for predict in (
        lambda p: p.predict_torch(None, None, p.transform.apply_boxes_torch(boxes, size), None, False, logits),
        lambda p: p.predict_torch(p.transform.apply_coords_torch(points, size), labels, return_logits=logits),
        lambda p: p.predict_torch(
            point_coords=p.transform.apply_coords_torch(points, size),
            point_labels=labels,
            boxes=p.transform.apply_boxes_torch(boxes, size),
            multimask_output=True,
            return_logits=logits,
        ),
    ):
        agree(predict(pair.my_predictor), predict(pair.their_predictor), logits)


def test_predict_torch_with_masks(pair: Pair) -> None:
    import torch

    generator = torch.Generator().manual_seed(1)
    masks = torch.randn(2, 1, 256, 256, generator=generator) * 8
    boxes = torch.tensor([[100.0, 40, 800, 600], [10, 10, 300, 300]])
    for mask in (masks, masks[:1]):
        mine = pair.my_predictor.predict_torch(None, None, boxes, mask, multimask_output=False)
        agree(mine, pair.their_predictor.predict_torch(None, None, boxes, mask, multimask_output=False))


def test_features_set_by_hand(pair: Pair) -> None:
    theirs = pair.their_predictor
    for features in (theirs.features, theirs.features.numpy()):
        mine = pair.mine.SamPredictor(pair.my_sam)
        mine.features = features
        mine.original_size = theirs.original_size
        mine.input_size = theirs.input_size
        mine.is_image_set = True
        assert mine.get_image_embedding() is features
        prompt = PROMPTS["negative point"]
        agree(mine.predict(**prompt), theirs.predict(**prompt))


def test_set_torch_image_and_bgr(pair: Pair, photo: NDArray[np.uint8]) -> None:
    import torch

    crop = np.ascontiguousarray(photo[100:350, 200:401])
    theirs, mine = pair.theirs.SamPredictor(pair.their_sam), pair.mine.SamPredictor(pair.my_sam)
    scaled = torch.as_tensor(theirs.transform.apply_image(crop)).permute(2, 0, 1)[None]
    theirs.set_torch_image(scaled, crop.shape[:2])
    mine.set_torch_image(scaled, crop.shape[:2])
    assert (mine.original_size, mine.input_size) == (theirs.original_size, theirs.input_size)
    prompt = {"point_coords": np.array([[100.0, 100]]), "point_labels": np.array([1])}
    expected = theirs.predict(**prompt)
    agree(mine.predict(**prompt), expected)
    mine.set_image(crop[..., ::-1], "BGR")
    agree(mine.predict(**prompt), expected)


def test_forward(pair: Pair, photo: NDArray[np.uint8]) -> None:
    import torch

    transform = pair.my_predictor.transform
    image = torch.as_tensor(transform.apply_image(photo)).permute(2, 0, 1).contiguous()
    size = photo.shape[:2]
    batch = [
        {
            "image": image,
            "original_size": size,
            "boxes": transform.apply_boxes_torch(torch.tensor(BOX).repeat(2, 1), size),
        },
        {
            "image": image,
            "original_size": size,
            "point_coords": transform.apply_coords_torch(torch.tensor(POINTS)[None], size),
            "point_labels": torch.tensor([[1, 0]]),
        },
    ][: 1 if pair.key == "vit_b" else 2]
    mine, theirs = pair.my_sam(batch, multimask_output=True), pair.their_sam(batch, multimask_output=True)
    assert [list(output) for output in mine] == [list(output) for output in theirs]
    for found, expected in zip(mine, theirs, strict=True):
        agree(list(found.values()), list(expected.values()))


def test_processing(pair: Pair) -> None:
    import torch

    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 256, 256, generator=generator)
    sizes = {"input_size": (683, 1024), "original_size": (400, 600)}
    expected = pair.their_sam.postprocess_masks(logits, **sizes)
    assert_numbers_agree(pair.my_sam.postprocess_masks(logits, **sizes), expected, 1e-4)
    image = torch.rand(1, 3, 683, 1024, generator=generator) * 255
    assert_numbers_agree(pair.my_sam.preprocess(image), pair.their_sam.preprocess(image), 1e-5)
