"""How other programs call ``sam2``, under its official names."""

from __future__ import annotations

import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import samara

from .beside import SAM2_CONFIG

Image = NDArray[np.uint8]

RELEASED_BYTES = 156_008_466
"""The length of the released checkpoint of SAM 2.1 tiny, by which the cache knows it."""

MODULES = ("build_sam", "sam2_image_predictor", "automatic_mask_generator", "sam2_video_predictor")
MODULES += ("modeling", "modeling.sam2_base", "utils", "utils.amg", "utils.transforms")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.usefixtures("sam2_installed")
def test_all_submodules() -> None:
    for name in MODULES:
        assert importlib.import_module(f"sam2.{name}") is sys.modules[f"samara.compat.sam2.{name}"]


@pytest.mark.usefixtures("sam2_installed")
def test_notebook_of_images(sam2_checkpoint: str, shapes: Image, torch: Any) -> None:
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        sam2_model = build_sam2(SAM2_CONFIG, sam2_checkpoint, device=torch.device("cpu"))
        predictor = SAM2ImagePredictor(sam2_model)
        predictor.set_image(shapes)
        input_point, input_label = np.array([[30, 40]]), np.array([1])
        masks, scores, logits = predictor.predict(
            point_coords=input_point, point_labels=input_label, multimask_output=True
        )
    sorted_ind = np.argsort(scores)[::-1]
    masks, scores, logits = masks[sorted_ind], scores[sorted_ind], logits[sorted_ind]
    assert masks.shape == (3, 80, 120)
    mask_input = logits[np.argmax(scores), :, :]
    masks, scores, _ = predictor.predict(
        point_coords=np.array([[30, 40], [90, 25]]),
        point_labels=np.array([1, 0]),
        mask_input=mask_input[None, :, :],
        multimask_output=False,
    )
    assert (masks.shape, scores.shape) == ((1, 80, 120), (1,))
    input_boxes = np.array([[10, 20, 50, 60], [70, 10, 110, 40]])
    masks, scores, _ = predictor.predict(point_coords=None, point_labels=None, box=input_boxes, multimask_output=False)
    assert masks.shape == (2, 1, 80, 120)
    for mask in masks:
        assert mask.squeeze(0).astype(np.uint8).shape == (80, 120)
    image_batch = [shapes, shapes[:, ::-1].copy()]
    boxes_batch = [input_boxes, input_boxes[:1]]
    predictor.set_image_batch(image_batch)
    masks_batch, scores_batch, _ = predictor.predict_batch(None, None, box_batch=boxes_batch, multimask_output=False)
    assert [len(part) for part in (masks_batch, scores_batch)] == [2, 2]
    assert [mask.shape for mask in masks_batch] == [(2, 1, 80, 120), (1, 80, 120)]


@pytest.mark.usefixtures("sam2_installed")
def test_notebook_of_the_generator(sam2: Any, shapes: Image) -> None:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    generator = SAM2AutomaticMaskGenerator(
        model=sam2,
        points_per_side=4,
        points_per_batch=128,
        pred_iou_thresh=0.7,
        stability_score_thresh=0.8,
        stability_score_offset=0.7,
        crop_n_layers=1,
        box_nms_thresh=0.7,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=25.0,
        use_m2m=True,
    )
    ordered = sorted(generator.generate(shapes), key=lambda record: record["area"], reverse=True)
    overlay = np.ones((*ordered[0]["segmentation"].shape, 4))
    for record in ordered:
        overlay[record["segmentation"]] = 0.5
    assert overlay.shape == (80, 120, 4)


@pytest.mark.usefixtures("sam2_installed")
def test_notebook_of_videos(sam2_checkpoint: str, frames: str, torch: Any) -> None:
    from sam2.build_sam import build_sam2_video_predictor

    predictor = build_sam2_video_predictor(SAM2_CONFIG, sam2_checkpoint, device=torch.device("cpu"))
    inference_state = predictor.init_state(video_path=frames)
    predictor.reset_state(inference_state)
    prompts: dict[int, Any] = {}
    points = np.array([[30, 40]], dtype=np.float32)
    labels = np.array([1], np.int32)
    prompts[2] = points, labels
    _, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=2, points=points, labels=labels
    )
    assert (out_mask_logits[0] > 0.0).cpu().numpy().shape == (1, 80, 120)
    _, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=3, box=np.array([10, 20, 50, 60], dtype=np.float32)
    )
    assert (out_obj_ids, out_mask_logits.dtype) == ([2, 3], torch.float32)
    video_segments = {}
    for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(inference_state):
        video_segments[out_frame_idx] = {
            out_obj_id: (out_mask_logits[i] > 0.0).cpu().numpy() for i, out_obj_id in enumerate(out_obj_ids)
        }
    assert list(video_segments) == [0, 1, 2, 3, 4]
    assert all(list(masks) == [2, 3] for masks in video_segments.values())
    predictor.remove_object(inference_state, obj_id=3)
    assert inference_state["obj_ids"] == [2]


@pytest.mark.usefixtures("sam2_installed")
def test_label_studio(sam2: Any, frames: str, torch: Any) -> None:
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    predictor = SAM2VideoPredictor(sam2.segmenter)
    inference_state = predictor.init_state(video_path=frames)
    predictor.reset_state(inference_state)
    for obj_id, x in (("AbC3", 30), ("xYz7", 90)):
        predictor.add_new_points(
            inference_state=inference_state,
            frame_idx=1,
            obj_id=obj_id,
            points=np.array([[x, 40]], dtype=np.float32),
            labels=np.array([1], dtype=np.int32),
        )
    sequence = []
    for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(
        inference_state=inference_state, start_frame_idx=1, max_frame_num_to_track=2
    ):
        for i, out_obj_id in enumerate(out_obj_ids):
            mask = (out_mask_logits[i] > 0.0).cpu().numpy()
            y, x = np.where(mask[0])
            sequence.append((out_frame_idx, out_obj_id, len(x)))
    assert [found[:2] for found in sequence] == [(frame, name) for frame in (1, 2, 3) for name in ("AbC3", "xYz7")]
    assert all(area > 1000 for _, name, area in sequence if name == "AbC3")


@pytest.mark.usefixtures("sam2_installed")
def test_lang_sam(sam2: Any, shapes: Image) -> None:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(sam2)
    predictor.set_image_batch([np.asarray(shapes), np.asarray(shapes)])
    boxes = [np.array([[10.0, 20, 50, 60], [70, 10, 110, 40]]), np.array([[70.0, 10, 110, 40]])]
    masks, scores, logits = predictor.predict_batch(box_batch=boxes, multimask_output=False)
    masks = [np.squeeze(mask, axis=1) if mask.ndim > 3 else mask for mask in masks]
    scores = [np.squeeze(score) for score in scores]
    logits = [np.squeeze(logit, axis=1) if logit.ndim > 3 else logit for logit in logits]
    assert [mask.shape for mask in masks] == [(2, 80, 120), (1, 80, 120)]
    assert [score.shape for score in scores] == [(2,), ()]


@pytest.mark.usefixtures("sam2_installed")
def test_samgeo(sam2_checkpoint: str, shapes: Image, frames: str, tmp_path: Path, monkeypatch: Any, torch: Any) -> None:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
    from sam2.sam2_image_predictor import SAM2ImagePredictor
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    monkeypatch.setenv("SAMARA_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    released(Path(sam2_checkpoint), tmp_path / "models" / "sam2.1_hiera_tiny.pt")
    name = "facebook/sam2.1-hiera-tiny"
    predictor = SAM2ImagePredictor.from_pretrained(
        name, mask_threshold=0.0, max_hole_area=0.0, max_sprinkle_area=0.0, device="cpu"
    )
    predictor.set_image(shapes)
    masks, scores, logits = predictor.predict(
        point_coords=None, point_labels=None, box=np.array([10, 20, 50, 60]), multimask_output=True
    )
    assert (masks.shape, scores.shape, logits.shape) == ((3, 80, 120), (3,), (3, 256, 256))
    generator = SAM2AutomaticMaskGenerator.from_pretrained(
        name,
        device="cpu",
        points_per_side=2,
        apply_postprocessing=False,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
    )
    assert generator.generate(shapes)
    video = SAM2VideoPredictor.from_pretrained(name, device="cpu")
    state = video.init_state(video_path=frames)
    _, ids, logits = video.add_new_points_or_box(state, 0, 1, points=[[30, 40]], labels=[1])
    assert (ids, logits.shape) == ([1], (1, 1, 80, 120))
    assert samara.Segmenter("sam2.1-tiny").fingerprint == video.segmenter.fingerprint


def released(checkpoint: Path, target: Path) -> None:
    """Copies a checkpoint to a file as long as the released one."""
    with zipfile.ZipFile(checkpoint) as given, zipfile.ZipFile(target, "w") as made:
        for item in given.infolist():
            # As torch wrote it in those days.
            if item.filename.endswith("/data.pkl") or "/data/" in item.filename:
                made.writestr("a/" + item.filename.partition("/")[2], given.read(item))
    missing = RELEASED_BYTES - target.stat().st_size
    empty = 2 * len("a/padding") + 30 + 46
    if missing < empty:
        pytest.skip(f"the checkpoint is {-missing} bytes longer than the released one")
    with zipfile.ZipFile(target, "a") as made:
        made.writestr("a/padding", bytes(missing - empty))
    assert target.stat().st_size == RELEASED_BYTES
