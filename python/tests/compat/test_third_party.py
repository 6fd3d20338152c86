"""How other programs call the packages, under the official names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import samara.compat

NAMES = ("segment_anything", "mobile_sam")
Image = NDArray[np.uint8]


def parts(name: str) -> list[str]:
    return [module for module in sys.modules if module == name or module.startswith(f"{name}.")]


@pytest.fixture
def clear() -> Iterator[None]:
    """A program that has not imported the official packages."""
    kept = {module: sys.modules.pop(module) for name in (*NAMES, "sam2") for module in parts(name)}
    yield
    for name in (*NAMES, "sam2"):
        for module in parts(name):
            del sys.modules[module]
    sys.modules.update(kept)


@pytest.fixture
def installed(clear: None) -> None:
    samara.compat.install(*NAMES)


@pytest.fixture(scope="module")
def checkpoint() -> str:
    """The embedded model stands for a file of MobileSAM."""
    return "lite"


@pytest.mark.usefixtures("clear")
class TestInstall:
    def test_all_submodules(self) -> None:
        samara.compat.install()
        for name in NAMES:
            for part in ("", ".predictor", ".automatic_mask_generator", ".build_sam", ".modeling", ".modeling.sam"):
                module = importlib.import_module(name + part)
                assert module is importlib.import_module(f"samara.compat.{name}{part}")
            for part in (".utils", ".utils.amg", ".utils.transforms"):
                assert sys.modules[name + part] is importlib.import_module(f"samara.compat.{name}{part}")
        samara.compat.install("mobile_sam")

    def test_one(self) -> None:
        samara.compat.install("mobile_sam")
        assert parts("mobile_sam")
        assert not parts("segment_anything")

    def test_the_official_package_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "segment_anything", ModuleType("segment_anything"))
        with pytest.raises(RuntimeError, match="^segment_anything: [^\n]*imported already[^\n]*$"):
            samara.compat.install()
        assert not parts("mobile_sam")

    def test_unknown(self) -> None:
        with pytest.raises(ValueError, match="^sam9: not offered .*mobile_sam"):
            samara.compat.install("sam9")


def test_missing_parts(installed: None) -> None:
    with pytest.raises(ImportError, match="official package"):
        from segment_anything.modeling import ImageEncoderViT  # noqa: F401
    with pytest.raises(ImportError, match="official package"):
        from mobile_sam.modeling import TinyViT  # noqa: F401


def test_registries(installed: None, checkpoint: str, tmp_path: Path) -> None:
    import mobile_sam
    import segment_anything

    assert list(segment_anything.sam_model_registry) == ["default", "vit_h", "vit_l", "vit_b"]
    assert list(mobile_sam.sam_model_registry) == ["default", "vit_h", "vit_l", "vit_b", "vit_t"]
    assert segment_anything.build_sam is segment_anything.build_sam_vit_h
    for key, build in mobile_sam.sam_model_registry.items():
        with pytest.raises(ValueError, match="^vit_.: no checkpoint given[^\n]*$"):
            build()
        with pytest.raises(FileNotFoundError):
            build(checkpoint=str(tmp_path / "absent.pth"))
        if key != "vit_t":
            with pytest.raises(RuntimeError, match="^lite: a checkpoint of mobile-sam, and 'vit_.' is sam-vit-.$"):
                build(checkpoint)


def test_notebook_of_the_predictor(installed: None, checkpoint: str, shapes: Image) -> None:
    from mobile_sam import SamPredictor, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=checkpoint)
    sam.to(device="cuda")
    sam.eval()
    predictor = SamPredictor(sam)
    predictor.set_image(shapes)
    input_point, input_label = np.array([[30, 40]]), np.array([1])
    masks, scores, logits = predictor.predict(point_coords=input_point, point_labels=input_label, multimask_output=True)
    assert masks.shape == (3, 80, 120)
    mask_input = logits[np.argmax(scores), :, :]
    masks, _, _ = predictor.predict(
        point_coords=np.array([[30, 40], [90, 25]]),
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    assert masks.shape == (1, 80, 120)
    masks, _, _ = predictor.predict(point_coords=None, point_labels=None, box=np.array([10, 20, 50, 60])[None, :])
    assert masks.any()


def test_notebook_with_tensors(installed: None, checkpoint: str, shapes: Image) -> None:
    torch = pytest.importorskip("torch")
    from segment_anything import SamPredictor
    from segment_anything.utils.transforms import ResizeLongestSide

    sam = build(checkpoint)
    predictor = SamPredictor(sam)
    predictor.set_image(shapes)
    input_boxes = torch.tensor([[10, 20, 50, 60], [70, 10, 110, 40]], device=predictor.device)
    transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, shapes.shape[:2])
    masks, scores, logits = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed_boxes, multimask_output=False
    )
    assert masks.shape == torch.Size([2, 1, 80, 120])
    assert (masks.dtype, scores.dtype, logits.dtype) == (torch.bool, torch.float32, torch.float32)
    assert masks.cpu().numpy()[0].shape[-2:] == shapes.shape[:2]

    resize_transform = ResizeLongestSide(sam.image_encoder.img_size)

    def prepare_image(image: Any, transform: Any, device: Any) -> Any:
        image = transform.apply_image(image)
        image = torch.as_tensor(image, device=device.device)
        return image.permute(2, 0, 1).contiguous()

    batched_input = [
        {
            "image": prepare_image(shapes, resize_transform, sam),
            "boxes": resize_transform.apply_boxes_torch(input_boxes, shapes.shape[:2]),
            "original_size": shapes.shape[:2],
        }
    ]
    batched_output = sam(batched_input, multimask_output=False)
    assert batched_output[0].keys() == {"masks", "iou_predictions", "low_res_logits"}
    assert (batched_output[0]["masks"] == masks).float().mean() > 0.9999


def test_notebook_of_the_generator(installed: None, checkpoint: str, shapes: Image) -> None:
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint)
    sam.to(device="cpu")
    generator = SamAutomaticMaskGenerator(
        model=sam,
        points_per_side=4,
        pred_iou_thresh=0.7,
        stability_score_thresh=0.8,
        crop_n_layers=1,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=100,
    )
    masks = generator.generate(shapes)
    ordered = sorted(masks, key=lambda record: record["area"], reverse=True)
    overlay = np.ones((*ordered[0]["segmentation"].shape, 4))
    for record in ordered:
        overlay[record["segmentation"]] = 0.5
    # As supervision reads them.
    boxes = np.array([record["bbox"] for record in ordered])
    assert boxes.shape == (len(ordered), 4)
    assert np.array([record["segmentation"] for record in ordered]).shape == (len(ordered), 80, 120)


def test_samgeo(installed: None, checkpoint: str, shapes: Image) -> None:
    torch = pytest.importorskip("torch")
    from segment_anything import SamAutomaticMaskGenerator, SamPredictor
    from segment_anything.utils.transforms import ResizeLongestSide

    class Predictor(SamPredictor):  # type: ignore[misc]
        def __init__(self, sam_model: Any) -> None:
            self.model = sam_model
            self.transform = ResizeLongestSide(sam_model.image_encoder.img_size)

        def set_image(self, image: Any) -> None:
            super().set_image(image)

        def predict(self, *args: Any) -> Any:
            return super().predict(*args)

    sam = build(checkpoint)
    sam.to(device="cpu")
    predictor = Predictor(sam)
    predictor.set_image(shapes)
    masks, scores, logits = predictor.predict(None, None, np.array([10, 20, 50, 60]), None, True, False)
    assert (masks.shape, scores.shape, logits.shape) == ((3, 80, 120), (3,), (3, 256, 256))
    boxes = torch.tensor([[10.0, 20, 50, 60]])
    boxes = predictor.transform.apply_boxes_torch(boxes, shapes.shape[:2])
    masks, _, _ = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=boxes.to(sam.device), multimask_output=False
    )
    assert masks.squeeze(1).shape == (1, 80, 120)
    coords = predictor.transform.apply_coords_torch(torch.tensor([[[30, 40]], [[90, 25]]]), shapes.shape[:2])
    masks, _, _ = predictor.predict_torch(coords, torch.ones(2, 1), multimask_output=True)
    assert masks.shape == (2, 3, 80, 120)
    assert SamAutomaticMaskGenerator(sam, **{"points_per_side": 2}).generate(shapes) is not None


def test_lang_sam(installed: None, checkpoint: str, shapes: Image) -> None:
    torch = pytest.importorskip("torch")
    from mobile_sam import SamPredictor, sam_model_registry

    sam = sam_model_registry["vit_t"](checkpoint=checkpoint)
    sam.to(device=torch.device("cpu"))
    predictor = SamPredictor(sam)
    predictor.set_image(np.asarray(shapes))
    boxes = predictor.transform.apply_boxes_torch(torch.tensor([[10.0, 20, 50, 60]]), shapes.shape[:2])
    masks, _, _ = predictor.predict_torch(None, None, boxes=boxes.to(predictor.device), multimask_output=False)
    assert masks.cpu().squeeze(1).sum() > 0
    # Newer versions ask box by box.
    masks, scores, _ = predictor.predict(box=np.array([10.0, 20, 50, 60]), multimask_output=False)
    assert (masks.shape, scores.shape) == ((1, 80, 120), (1,))


def test_grounded_sam(installed: None, checkpoint: str, shapes: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    import segment_anything.build_sam
    from mobile_sam import build_sam_vit_t

    # `build_sam` is ViT-H, for which there are no small weights.
    monkeypatch.setattr(segment_anything, "build_sam", build_sam_vit_t)
    from segment_anything import SamPredictor, build_sam

    predictor = SamPredictor(build_sam(checkpoint=checkpoint).to("cpu"))
    predictor.set_image(shapes)
    boxes_filt = torch.tensor([[0.25, 0.5, 0.33, 0.5], [0.75, 0.31, 0.33, 0.375]])
    boxes_filt = boxes_filt * torch.tensor([120, 80, 120, 80])
    boxes_filt[:, :2] -= boxes_filt[:, 2:] / 2
    boxes_filt[:, 2:] += boxes_filt[:, :2]
    transformed_boxes = predictor.transform.apply_boxes_torch(boxes_filt, shapes.shape[:2]).to("cpu")
    masks, iou_predictions, _ = predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed_boxes.to("cpu"), multimask_output=False
    )
    assert masks.shape == (2, 1, 80, 120)
    assert iou_predictions.max() > 0.5
    value = torch.zeros(masks.shape[-2:])
    for i, mask in enumerate(masks):
        value[mask.cpu().numpy()[0] == True] = i + 1  # noqa: E712
    assert set(value.unique().tolist()) == {0, 1, 2}


def test_micro_sam(installed: None, checkpoint: str, shapes: Image) -> None:
    torch = pytest.importorskip("torch")
    import segment_anything.utils.amg as amg_utils
    from segment_anything import SamPredictor

    source = SamPredictor(build(checkpoint))
    source.set_image(shapes)
    stored = {
        "features": source.get_image_embedding().cpu().numpy(),
        "input_size": source.input_size,
        "original_size": source.original_size,
    }
    predictor = SamPredictor(build(checkpoint))
    predictor.reset_image()
    predictor.model_type = "vit_t"
    predictor.features = torch.from_numpy(stored["features"]).to(predictor.device)
    predictor.original_size = stored["original_size"]
    predictor.input_size = stored["input_size"]
    predictor.is_image_set = True

    grid = amg_utils.build_all_layer_point_grids(4, 0, 1)[0] * np.array([[120, 80]])
    data = amg_utils.MaskData()
    for (points,) in amg_utils.batch_iterator(8, grid):
        coords = torch.as_tensor(predictor.transform.apply_coords(points, (80, 120)), dtype=torch.float)[:, None]
        masks, ious, _ = predictor.predict_torch(
            coords, torch.ones(len(coords), 1, dtype=torch.int), multimask_output=True, return_logits=True
        )
        batch = amg_utils.MaskData(
            masks=masks.flatten(0, 1),
            iou_preds=ious.flatten(0, 1),
            points=torch.as_tensor(points.repeat(masks.shape[1], axis=0)),
        )
        batch["stability_scores"] = amg_utils.calculate_stability_score(batch["masks"], 0.0, 1.0)
        batch.filter(batch["stability_scores"] >= 0.8)
        batch["masks"] = batch["masks"] > predictor.model.mask_threshold
        batch["boxes"] = amg_utils.batched_mask_to_box(batch["masks"])
        batch.filter(~amg_utils.is_box_near_crop_edge(batch["boxes"], [0, 0, 120, 80], [0, 0, 120, 80]))
        batch["rles"] = amg_utils.mask_to_rle_pytorch(amg_utils.uncrop_masks(batch["masks"], [0, 0, 120, 80], 80, 120))
        del batch["masks"]
        data.cat(batch)
    data.to_numpy()
    assert len(data["rles"]) == len(data["boxes"]) > 0
    assert amg_utils.area_from_rle(data["rles"][0]) == amg_utils.rle_to_mask(data["rles"][0]).sum()


def build(checkpoint: str) -> Any:
    """A model of ``mobile_sam``, which the predictors of both packages take."""
    from mobile_sam import build_sam_vit_t

    return build_sam_vit_t(checkpoint=checkpoint)
