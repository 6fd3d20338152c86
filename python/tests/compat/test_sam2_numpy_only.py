"""``sam2`` in a program without torch, on the embedded model: arrays in, arrays out."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import samara
from samara.compat.sam2 import build_sam
from samara.compat.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from samara.compat.sam2.modeling.sam2_base import SAM2Base
from samara.compat.sam2.sam2_image_predictor import SAM2ImagePredictor
from samara.compat.sam2.sam2_video_predictor import SAM2VideoPredictor
from samara.compat.sam2.utils.amg import rle_to_mask
from samara.compat.sam2.utils.transforms import SAM2Transforms

pytestmark = pytest.mark.usefixtures("no_torch")

Image = NDArray[np.uint8]
CLICK = {"points": [[30, 40]], "labels": [1]}


@pytest.fixture(scope="module")
def predictor(sam2: SAM2Base, shapes: Image) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(sam2)
    predictor.set_image(shapes)
    return predictor


@pytest.fixture(scope="module")
def tracker(sam2: SAM2Base) -> SAM2VideoPredictor:
    return SAM2VideoPredictor(sam2.segmenter)


def plain(*values: Any) -> bool:
    return all(type(value) is np.ndarray and value.dtype == np.float32 for value in values)


def areas(logits: NDArray[np.float32]) -> list[int]:
    counts: list[int] = (logits > 0).sum(axis=(1, 2, 3)).tolist()
    return counts


def test_predict(predictor: SAM2ImagePredictor, shapes: Image) -> None:
    masks, scores, logits = predictor.predict(np.array([[30, 40], [90, 25]]), np.array([1, 0]))
    assert plain(masks, scores, logits)
    assert (masks.shape, scores.shape, logits.shape) == ((3, 80, 120), (3,), (3, 256, 256))
    truth = (shapes == 255).all(axis=-1)
    best = masks[scores.argmax()] == 1
    assert (best & truth).sum() / (best | truth).sum() > 0.9
    again = predictor.predict(np.array([[0.25, 0.5], [0.75, 0.3125]]), np.array([1, 0]), normalize_coords=False)
    assert (again[0] == masks).all()
    full = predictor.predict(np.array([[30, 40], [90, 25]]), np.array([1, 0]), return_logits=True)[0]
    assert plain(full)
    assert ((full > 0) == masks).all()


def test_several_prompts(predictor: SAM2ImagePredictor) -> None:
    boxes = np.array([[10, 20, 50, 60], [70, 10, 110, 40]])
    masks, scores, logits = predictor.predict(box=boxes, multimask_output=False)
    assert (masks.shape, scores.shape, logits.shape) == ((2, 1, 80, 120), (2, 1), (2, 1, 256, 256))
    for box, mask in zip(boxes, masks, strict=True):
        assert (predictor.predict(box=box, multimask_output=False)[0] == mask).all()
        corners = predictor.predict(box.reshape(2, 2), np.array([2, 3]), multimask_output=False)
        assert (corners[0] == mask).all()
    refined = predictor.predict(box=boxes, mask_input=logits, multimask_output=False)[0]
    assert refined.shape == masks.shape
    none = predictor.predict(box=np.zeros((0, 4)))
    assert [len(part) for part in none] == [0, 0, 0]


def test_batches(sam2: SAM2Base, shapes: Image, predictor: SAM2ImagePredictor) -> None:
    batch = SAM2ImagePredictor(sam2)
    batch.set_image_batch([shapes, shapes[:, :60]])
    box = np.array([10, 20, 50, 60])
    masks, scores, logits = batch.predict_batch(box_batch=[box, box[None]], multimask_output=False)
    assert [mask.shape for mask in masks] == [(1, 80, 120), (1, 80, 60)]
    assert plain(*masks, *scores, *logits)
    assert (masks[0] == predictor.predict(box=box, multimask_output=False)[0]).all()
    assert batch.get_image_embedding().shape == (2, 256, 64, 64)
    assert batch.predict(box=box)[0].shape == (3, 80, 60)
    batch.reset_predictor()
    with pytest.raises(AssertionError):
        batch.predict_batch(box_batch=[box, box])


def test_mended_masks(sam2: SAM2Base, shapes: Image) -> None:
    logits = np.full((1, 1, 64, 64), -5, np.float32)
    logits[..., 10:40, 10:40] = 5
    logits[..., 20:22, 20:22] = -5
    logits[..., 50, 50:52] = 5
    mended = SAM2Transforms(1024, 0.0, max_hole_area=4, max_sprinkle_area=2).postprocess_masks(logits, (64, 64))
    assert set(np.unique(mended)) == {-10, -5, 5, 10}
    assert (mended > 0).sum() == 900
    assert (SAM2Transforms(1024, 0.0, 3, 1).postprocess_masks(logits, (64, 64)) == logits).all()


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_generate(sam2: SAM2Base, shapes: Image, mode: str) -> None:
    options: dict[str, Any] = {"points_per_side": 4, "pred_iou_thresh": 0.7, "output_mode": mode}
    records = SAM2AutomaticMaskGenerator(sam2, **options).generate(shapes)
    # The same, step by step, with a threshold that makes no difference; the embedded model has an order of its own.
    by_hand = SAM2AutomaticMaskGenerator(sam2, **options, mask_threshold=1e-6).generate(shapes)
    assert len(records) == len(by_hand) > 0
    for all_records in (records, by_hand):
        all_records.sort(key=lambda record: record["bbox"])
    for record, other in zip(records, by_hand, strict=True):
        assert list(record) == list(other)
        assert [type(value) for value in record.values()] == [type(value) for value in other.values()]
        assert record["bbox"] == pytest.approx(other["bbox"], abs=2)
        assert record["area"] == pytest.approx(other["area"], rel=0.05)
        mask = record["segmentation"]
        if mode == "uncompressed_rle":
            mask = rle_to_mask(mask)
        assert (mask if mode != "coco_rle" else samara.decode_rle(mask)).sum() == record["area"]


def test_options_of_the_generator(sam2: SAM2Base, shapes: Image) -> None:
    options: dict[str, Any] = {"points_per_side": 2, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    options |= {"crop_n_layers": 1, "min_mask_region_area": 20, "use_m2m": True}
    for more in ({}, {"multimask_output": False}):
        assert SAM2AutomaticMaskGenerator(sam2, **options, **more, unknown=1).generate(shapes)


def test_video(tracker: SAM2VideoPredictor, frames: str) -> None:
    state = tracker.init_state(Path(frames))
    assert (state["num_frames"], state["video_height"], state["video_width"]) == (5, 80, 120)
    frame, ids, logits = tracker.add_new_points_or_box(state, 0, "left", **CLICK)
    assert (frame, ids, logits.shape, plain(logits)) == (0, ["left"], (1, 1, 80, 120), True)
    frame, ids, logits = tracker.add_new_points_or_box(state, np.int64(2), ("b", 1), box=[20, 20, 60, 60])
    assert ids == ["left", ("b", 1)] == state["obj_ids"]
    assert state["obj_id_to_idx"] == {"left": 0, ("b", 1): 1}
    assert (logits[0] == -1024).all()
    assert areas(logits)[1] == pytest.approx(1600, abs=100)
    found = list(tracker.propagate_in_video(state))
    assert [frame for frame, _, _ in found] == [0, 1, 2, 3, 4]
    assert all(
        ids == ["left", ("b", 1)] and areas(logits) == pytest.approx([1600] * 2, abs=150) for _, ids, logits in found
    )
    *_, logits = tracker.add_new_points_or_box(state, 2, ("b", 1), [[90, 70]], [0], clear_old_points=True)
    assert areas(logits)[0] > 0


def test_ranges(tracker: SAM2VideoPredictor, frames: str) -> None:
    state = tracker.init_state(frames)
    tracker.add_new_points_or_box(state, 2, 1, [[40, 40]], [1])

    def visited(**options: Any) -> list[int]:
        return [frame for frame, _, _ in tracker.propagate_in_video(state, **options)]

    assert visited() == [2, 3, 4]
    assert visited(reverse=True) == [2, 1, 0]
    assert visited(start_frame_idx=3, max_frame_num_to_track=1, reverse=True) == [3, 2]
    assert visited(start_frame_idx=1, max_frame_num_to_track=1) == [1, 2]
    assert visited(max_frame_num_to_track=0) == [2]
    assert visited(start_frame_idx=0, reverse=True) == visited(start_frame_idx=7) == []
    for frame, *_ in tracker.propagate_in_video(state):
        if frame == 3:
            break
    assert visited(start_frame_idx=4) == [4]


def test_clicks_are_added_or_replaced(tracker: SAM2VideoPredictor, frames: str) -> None:
    state = tracker.init_state(frames)
    tracker.add_new_points_or_box(state, 0, 1, **CLICK, box=[10, 20, 50, 60])
    tracker.add_new_points_or_box(state, 0, 1, [[90, 20]], [0], clear_old_points=False)
    clicks = state.track(1).clicks[0]
    assert (clicks.points.tolist(), clicks.labels.tolist()) == ([[30, 40], [90, 20]], [1, 0])
    assert clicks.box is not None
    assert clicks.box.tolist() == [10, 20, 50, 60]
    tracker.add_new_points_or_box(state, 0, 1, [[90, 20]], [0])
    clicks = state.track(1).clicks[0]
    assert (clicks.points.tolist(), clicks.box) == ([[90, 20]], None)
    tracker.add_new_mask(state, 0, 1, np.eye(80, 120))
    assert 0 not in state.track(1).clicks


def test_prompts_are_taken_back(tracker: SAM2VideoPredictor, frames: str) -> None:
    state = tracker.init_state(frames)
    first = tracker.add_new_points_or_box(state, 0, 1, **CLICK)[2]
    tracker.add_new_points_or_box(state, 0, 2, [[100, 70]], [1])
    tracker.add_new_points_or_box(state, 1, 2, [[100, 70]], [1])
    _, ids, logits = tracker.clear_all_prompts_in_frame(state, 0, 2)  # type: ignore[misc]
    assert ids == [1, 2]
    assert (logits[1] == -1024).all()
    assert (logits[0] == first[0]).all()
    assert tracker.clear_all_prompts_in_frame(state, 1, 2, need_output=False) is None
    with pytest.raises(RuntimeError, match="^object 2: it has no prompt"):
        next(iter(tracker.propagate_in_video(state)))
    assert tracker.remove_object(state, 3) == ([1, 2], [])
    assert tracker.remove_object(state, 2) == ([1], [])
    assert len(list(tracker.propagate_in_video(state))) == 5
    ids, updated = tracker.remove_object(state, 1)
    assert (ids, updated) == ([], [])
    tracker.add_new_points_or_box(state, 0, 1, **CLICK)
    tracker.reset_state(state)
    assert (state["obj_ids"], state["obj_id_to_idx"], state.session.objects) == ([], {}, [])
    with pytest.raises(RuntimeError, match="no object"):
        tracker.propagate_in_video_preflight(state)
    assert (tracker.add_new_points_or_box(state, 0, 1, **CLICK)[2] == first).all()


def test_objects_do_not_overlap(sam2: SAM2Base, frames: str) -> None:
    tracker = SAM2VideoPredictor(sam2.segmenter, non_overlap_masks=True, keep_all=False)
    state = tracker.init_state(frames)
    tracker.add_new_points_or_box(state, 0, 1, **CLICK)
    tracker.add_new_points_or_box(state, 0, 2, **CLICK)
    for _, _, logits in tracker.propagate_in_video(state):
        assert ((logits > 0).sum(axis=0) <= 1).all()
        assert areas(logits)[1] == 0


def test_state_holds_what_programs_read(tracker: SAM2VideoPredictor, frames: str) -> None:
    state = tracker.init_state(frames, True, True, True)
    assert state["offload_video_to_cpu"] is state["offload_state_to_cpu"] is True
    assert state["device"] == state["storage_device"] == "cpu"
    assert "images" not in state
    with pytest.raises(KeyError, match="images: not offered"):
        _ = state["images"]


def test_video_file(tracker: SAM2VideoPredictor, tmp_path: Path, frames: str) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg makes and reads video files")
    film = str(tmp_path / "film.mp4")
    options = ["-i", f"{frames}/%05d.jpg", "-c:v", "mpeg4", "-q:v", "2", film]
    made = subprocess.run([program, "-v", "error", "-f", "image2", "-c:v", "png", *options], check=False)
    if made.returncode != 0:
        pytest.skip("this ffmpeg makes no video")
    state = tracker.init_state(film)
    assert (state["num_frames"], state["video_height"], state["video_width"]) == (5, 80, 120)
    tracker.add_new_points_or_box(state, 1, 1, **CLICK)
    assert [frame for frame, *_ in tracker.propagate_in_video(state)] == [1, 2, 3, 4]
    tracker.reset_state(state)
    tracker.add_new_points_or_box(state, 4, 1, **CLICK)
    assert [frame for frame, *_ in tracker.propagate_in_video(state, reverse=True)] == [4, 3, 2, 1, 0]


def test_the_model_moves_nowhere(sam2: SAM2Base) -> None:
    assert sam2.to("cuda") is sam2.cuda() is sam2.cpu() is sam2.eval() is sam2.float() is sam2.train(False) is sam2
    for call in (sam2.train, lambda: sam2(1)):
        with pytest.raises(NotImplementedError):
            call()
    assert not hasattr(sam2, "state_dict")
    for name in ("state_dict", "sam_mask_decoder", "forward_image", "track_step"):
        with pytest.raises(AttributeError, match=f"^SAM2Base.{name}: [^\n]*official package[^\n]*segmenter[^\n]*$"):
            getattr(sam2, name)
    assert repr(copy.copy(sam2)) == repr(pickle.loads(pickle.dumps(sam2))) == repr(sam2)


@pytest.mark.parametrize("model_id", ["facebook/sam2.1-hiera-base-plus", "facebook/sam2-hiera-large", "sam2.1-tiny"])
def test_a_model_that_is_not_there(model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMARA_HOME", str(tmp_path))
    for kind in (SAM2ImagePredictor, SAM2AutomaticMaskGenerator, SAM2VideoPredictor):
        with pytest.raises(FileNotFoundError, match=r"^model sam2[^\n]*samara\.download\([^\n]*sam2[^\n]*\.pt there$"):
            kind.from_pretrained(model_id)


def test_configurations(tmp_path: Path) -> None:
    for config in ("sam2_hiera_s.yaml", "configs/sam2.1/sam2.1_hiera_b+.yaml", "sam2_hiera_l", "/a/sam2_hiera_t.yaml"):
        with pytest.raises(RuntimeError, match=r"^lite: a checkpoint of mobile-sam, and '[^\n]*' is sam2[^\n]*$"):
            build_sam.build_sam2(config, "lite")
        with pytest.raises(FileNotFoundError):
            build_sam.build_sam2_video_predictor(config, tmp_path / "absent.pt")
    assert len(build_sam.HF_MODEL_ID_TO_FILENAMES) == 8


def test_engine_answers_alike(tracker: SAM2VideoPredictor, frames: str) -> None:
    session = samara.VideoSession(tracker.segmenter, frames)
    expected = session.prompt(0, 0, [30, 40]).logits
    state = tracker.init_state(frames)
    assert (tracker.add_new_points_or_box(state, 0, 1, **CLICK)[2][0, 0] == expected).all()
