"""The packages in a program without torch: arrays in, arrays out, and the engine's own answers."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import samara
from samara.compat.segment_anything import SamAutomaticMaskGenerator, SamPredictor
from samara.compat.segment_anything.modeling import Sam
from samara.compat.segment_anything.utils.amg import MaskData, batched_mask_to_box, mask_to_rle_pytorch
from samara.compat.segment_anything.utils.transforms import ResizeLongestSide

pytestmark = pytest.mark.usefixtures("no_torch")

Image = NDArray[np.uint8]


def test_imports_are_light() -> None:
    heavy = "{'torch', 'torchvision', 'PIL', 'cv2', 'pycocotools', 'scipy'}"
    code = f"import sys, samara.compat; samara.compat.install(); print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def plain(value: Any) -> bool:
    return type(value) is np.ndarray


def test_predict(lone_predictor: SamPredictor, sam: Sam, shapes: Image) -> None:
    with pytest.raises(ImportError):
        import torch  # noqa: F401
    embedding = sam.segmenter.embed(shapes)
    masks, scores, logits = lone_predictor.predict(np.array([[30, 40], [90, 25]]), np.array([1, 0]))
    assert all(map(plain, (masks, scores, logits)))
    assert (masks.shape, masks.dtype) == ((3, 80, 120), np.bool_)
    assert (scores.shape, scores.dtype) == ((3,), np.float32)
    assert (logits.shape, logits.dtype) == ((3, 256, 256), np.float32)
    expected = embedding.predict([[30, 40], [90, 25]], [1, 0])
    for mask, found, expected_logits in zip(masks, logits, expected, strict=True):
        assert np.allclose(found, expected_logits.low_res_logits, atol=1e-3)
        assert (mask == expected_logits.mask).mean() > 0.9999
    truth = (shapes == 255).all(axis=-1)
    best = masks[scores.argmax()]
    assert (best & truth).sum() / (best | truth).sum() > 0.9


def test_options(lone_predictor: SamPredictor) -> None:
    box = np.array([10, 20, 50, 60])
    masks, scores, logits = lone_predictor.predict(box=box, multimask_output=False)
    assert (len(masks), len(scores), len(logits)) == (1, 1, 1)
    again = lone_predictor.predict(None, None, box, logits, False, True)
    assert again[0].dtype == np.float32
    assert again[0].shape == (1, 80, 120)
    refined = lone_predictor.predict(None, None, box, logits, False)
    assert ((again[0] > 0) == refined[0]).all()


def test_edges_count_as_inside(lone_predictor: SamPredictor) -> None:
    corners = np.array([[0, 0], [119.999, 79.999], [120, 80]])
    assert lone_predictor.predict(corners, np.ones(3))[0].shape == (3, 80, 120)


def test_predict_torch_of_arrays(lone_predictor: SamPredictor) -> None:
    boxes = lone_predictor.transform.apply_boxes_torch(np.array([[10, 20, 50, 60], [70, 10, 110, 40]]), (80, 120))
    masks, scores, logits = lone_predictor.predict_torch(None, None, boxes, multimask_output=False)
    assert all(map(plain, (masks, scores, logits)))
    assert (masks.shape, scores.shape, logits.shape) == ((2, 1, 80, 120), (2, 1), (2, 1, 256, 256))
    for i, box in enumerate([[10, 20, 50, 60], [70, 10, 110, 40]]):
        assert (lone_predictor.predict(box=np.array(box), multimask_output=False)[0] == masks[i]).mean() > 0.9999
    none = lone_predictor.predict_torch(None, None, boxes[:0])
    assert [part.shape for part in none] == [(0, 3, 80, 120), (0, 3), (0, 3, 256, 256)]


def test_threshold_of_the_model(sam: Sam, shapes: Image, lone_predictor: SamPredictor) -> None:
    strict = Sam(sam.segmenter)
    strict.mask_threshold = 2.0
    predictor = SamPredictor(strict)
    predictor.set_image(shapes)
    box = np.array([10, 20, 50, 60])
    full = lone_predictor.predict(box=box, return_logits=True)[0]
    assert ((full > 2) == predictor.predict(box=box)[0]).all()


def test_state(sam: Sam, shapes: Image) -> None:
    predictor = SamPredictor(sam)
    assert not predictor.is_image_set
    for call in (predictor.predict, predictor.get_image_embedding, lambda: predictor.predict_torch(None, None)):
        with pytest.raises(RuntimeError, match="set_image"):
            call()
    predictor.set_image(shapes)
    assert predictor.is_image_set
    assert predictor.original_size == (80, 120)
    assert predictor.input_size == (683, 1024)
    assert predictor.device == "cpu"
    assert predictor.device.type == "cpu"
    features = predictor.get_image_embedding()
    assert plain(features)
    assert (features.shape, features.dtype) == ((1, 256, 64, 64), np.float32)
    assert features is predictor.features
    predictor.reset_image()
    assert not predictor.is_image_set
    assert predictor.features is None


def test_features_set_by_hand(sam: Sam, lone_predictor: SamPredictor) -> None:
    predictor = SamPredictor(sam)
    predictor.features = lone_predictor.features
    predictor.original_size = (80, 120)
    predictor.input_size = (683, 1024)
    predictor.is_image_set = True
    box = np.array([10, 20, 50, 60])
    assert (predictor.predict(box=box)[0] == lone_predictor.predict(box=box)[0]).all()
    predictor.original_size = (160, 240)
    assert predictor.predict(box=box * 2)[0].shape == (3, 160, 240)
    predictor.input_size = (1024, 683)
    with pytest.raises(ValueError, match="input_size"):
        predictor.predict(box=box)


def test_subclass_without_the_constructor(sam: Sam, shapes: Image) -> None:
    class Mine(SamPredictor):
        def __init__(self, model: Sam) -> None:
            self.model = model
            self.transform = ResizeLongestSide(model.image_encoder.img_size)

    predictor = Mine(sam)
    with pytest.raises(RuntimeError):
        predictor.predict()
    predictor.set_image(shapes)
    assert predictor.predict(np.array([[30, 40]]), np.array([1]))[0].shape == (3, 80, 120)


def test_set_torch_image_and_forward(sam: Sam, shapes: Image, lone_predictor: SamPredictor) -> None:
    predictor = SamPredictor(sam)
    scaled = predictor.transform.apply_image(shapes).transpose(2, 0, 1)
    predictor.set_torch_image(scaled[None], (80, 120))
    assert np.abs(predictor.features - lone_predictor.features).max() < 1e-3
    boxes = predictor.transform.apply_boxes(np.array([[10, 20, 50, 60]]), (80, 120))
    (output,) = sam([{"image": scaled, "original_size": (80, 120), "boxes": boxes}], multimask_output=False)
    assert list(output) == ["masks", "iou_predictions", "low_res_logits"]
    assert all(map(plain, output.values()))
    assert (output["masks"][0] == predictor.predict_torch(None, None, boxes, None, False)[0][0]).mean() > 0.9999
    upscaled = sam.postprocess_masks(output["low_res_logits"], (683, 1024), (80, 120))
    assert ((upscaled > 0) == output["masks"]).all()
    assert sam.preprocess(scaled).shape == (3, 1024, 1024)


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_generate(sam: Sam, shapes: Image, mode: str) -> None:
    options: dict[str, Any] = {"points_per_side": 4, "pred_iou_thresh": 0.7, "stability_score_thresh": 0.8}
    records = SamAutomaticMaskGenerator(sam, **options, output_mode=mode).generate(shapes)
    expected = samara.MaskGenerator(sam.segmenter, **options).generate(shapes)
    assert len(records) == len(expected) > 0
    for record, found in zip(records, expected, strict=True):
        assert list(record) == list(found.keys())
        assert record["area"] == found.area
        assert record["bbox"] == list(found.bbox)
        assert type(record["predicted_iou"]) is type(record["stability_score"]) is float
        mask = record["segmentation"]
        if mode == "uncompressed_rle":
            assert mask == mask_to_rle_pytorch(found.segmentation[None])[0]
        bits = mask if mode == "binary_mask" else samara.decode_rle(mask)
        assert (bits == found.segmentation).all()


def test_options_changed_later(sam: Sam, shapes: Image) -> None:
    generator = SamAutomaticMaskGenerator(sam, 4, pred_iou_thresh=0.7, stability_score_thresh=0.8)
    assert generator.generate(shapes)
    generator.pred_iou_thresh = generator.stability_score_thresh = 1.0
    assert generator.generate(shapes) == []


def test_small_regions() -> None:
    masks = np.zeros((2, 20, 20), bool)
    masks[:, 2:12, 2:12] = True
    masks[1, 18, 18] = True
    data = MaskData(rles=mask_to_rle_pytorch(masks), boxes=batched_mask_to_box(masks), names=["whole", "dotted"])
    SamAutomaticMaskGenerator.postprocess_small_regions(data, 4, 0.7)
    assert data["names"] == ["whole"]
    assert data["boxes"].tolist() == [[2, 2, 11, 11]]


def test_the_model_moves_nowhere(sam: Sam) -> None:
    assert sam.to("cuda") is sam.to(device="cuda", dtype=None) is sam.eval() is sam.cpu() is sam.cuda() is sam
    assert sam.train(False) is sam.requires_grad_(False) is sam
    with pytest.raises(NotImplementedError):
        sam.train()
    assert not hasattr(sam, "state_dict")
    for name in ("state_dict", "parameters", "prompt_encoder", "mask_decoder", "load_state_dict"):
        with pytest.raises(AttributeError, match=f"^Sam.{name}: .*official package.*segmenter[^\n]*$"):
            getattr(sam, name)
    with pytest.raises(NotImplementedError, match=r"^image_encoder\(\): .*official package"):
        sam.image_encoder(np.zeros((1, 3, 1024, 1024)))
    with pytest.raises(AttributeError, match="image_encoder.blocks"):
        _ = sam.image_encoder.blocks
    assert repr(copy.copy(sam)) == repr(pickle.loads(pickle.dumps(sam))) == repr(sam)
