"""What makes no sense is refused by an exception of one line."""

from __future__ import annotations

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
from samara.compat.sam2.sam2_video_predictor import InferenceState, SAM2VideoPredictor
from samara.compat.sam2.utils.transforms import SAM2Transforms

from .test_bad_input import one_line

POINT, LABEL = np.array([[30, 40]]), np.array([1])
BOX = np.array([10, 20, 50, 60])
NAN = float("nan")


@pytest.fixture(scope="module")
def predictor(sam2: SAM2Base, shapes: NDArray[np.uint8]) -> SAM2ImagePredictor:
    predictor = SAM2ImagePredictor(sam2)
    predictor.set_image(shapes)
    return predictor


@pytest.fixture
def tracker(sam2: SAM2Base) -> SAM2VideoPredictor:
    return SAM2VideoPredictor(sam2.segmenter)


@pytest.fixture
def state(tracker: SAM2VideoPredictor, frames: str) -> InferenceState:
    return tracker.init_state(frames)


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((8, 9, 3), np.float32), TypeError),
        (np.zeros((8, 9), np.uint8), ValueError),
        (np.zeros((8, 9, 4), np.uint8), ValueError),
        (np.zeros((0, 9, 3), np.uint8), ValueError),
        ("photo.png", NotImplementedError),
        (None, NotImplementedError),
        ([[1, 2], [3, 4]], NotImplementedError),
    ],
)
def test_images(sam2: SAM2Base, image: Any, error: type[Exception]) -> None:
    predictor = SAM2ImagePredictor(sam2)
    one_line(error, lambda: predictor.set_image(image))
    one_line(AssertionError if error is NotImplementedError else error, lambda: predictor.set_image_batch([image]))
    one_line(AssertionError, lambda: predictor.set_image_batch(image))
    one_line(RuntimeError, lambda: predictor.predict(POINT, LABEL))
    one_line(RuntimeError, predictor.get_image_embedding)


PROMPTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "nothing": ({}, samara.PromptError),
    "no labels": ({"point_coords": POINT}, AssertionError),
    "a flat point": ({"point_coords": POINT[0], "point_labels": LABEL}, ValueError),
    "three numbers": ({"point_coords": np.zeros((1, 3)), "point_labels": LABEL}, ValueError),
    "two labels": ({"point_coords": POINT, "point_labels": np.array([1, 0])}, ValueError),
    "labels of a batch": ({"point_coords": POINT, "point_labels": LABEL[None]}, ValueError),
    "label 4": ({"point_coords": POINT, "point_labels": np.array([4])}, samara.PromptError),
    "point nan": ({"point_coords": POINT * NAN, "point_labels": LABEL}, samara.PromptError),
    "text": ({"point_coords": np.array([["a", "b"]]), "point_labels": LABEL}, ValueError),
    "ragged": ({"point_coords": [[1, 2], [3]], "point_labels": LABEL}, ValueError),
    "box of three": ({"box": np.array([1, 2, 3])}, ValueError),
    "box nan": ({"box": np.array([1, 2, NAN, 40])}, samara.PromptError),
    "two boxes for a point": ({"point_coords": POINT, "point_labels": LABEL, "box": np.stack([BOX, BOX])}, ValueError),
    "flat mask": ({"mask_input": np.zeros((256, 256))}, ValueError),
    "small mask": ({"mask_input": np.zeros((1, 64, 64))}, samara.PromptError),
    "mask nan": ({"mask_input": np.full((1, 256, 256), NAN)}, samara.PromptError),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(predictor: SAM2ImagePredictor, name: str) -> None:
    prompt, error = PROMPTS[name]
    one_line(error, lambda: predictor.predict(**prompt))


@pytest.mark.parametrize(("points", "normalize"), [(POINT * 10, True), (POINT, False)])
def test_points_outside_are_answered_and_told(
    predictor: SAM2ImagePredictor, points: NDArray[np.int_], normalize: bool
) -> None:
    with pytest.warns(UserWarning, match="^point_coords: 1 of 1 points lie outside the image of "):
        predictor.predict(points, LABEL, normalize_coords=normalize)


def test_batches(sam2: SAM2Base, predictor: SAM2ImagePredictor, shapes: NDArray[np.uint8]) -> None:
    one_line(AssertionError, lambda: predictor.predict_batch(box_batch=[BOX]))
    batch = SAM2ImagePredictor(sam2)
    one_line(ValueError, lambda: batch.set_image_batch([]))
    batch.set_image_batch([shapes])
    one_line(ValueError, lambda: batch.predict_batch(box_batch=[BOX, BOX]))
    one_line(ValueError, batch.predict_batch)


def test_models_and_options(sam2: SAM2Base) -> None:
    one_line(TypeError, lambda: SAM2Base("sam2.1-tiny"))  # type: ignore[arg-type]
    for kind in (SAM2ImagePredictor, SAM2AutomaticMaskGenerator):
        one_line(TypeError, lambda kind=kind: kind(object()))  # type: ignore[arg-type]
    for options, error in (
        ({"points_per_side": None}, AssertionError),
        ({"point_grids": [np.zeros((1, 2))]}, AssertionError),
        ({"output_mode": "png"}, AssertionError),
        ({"points_per_batch": 0}, ValueError),
        ({"stability_score_offset": NAN}, ValueError),
    ):
        one_line(error, lambda options=options: SAM2AutomaticMaskGenerator(sam2, **options))
    one_line(ValueError, lambda: SAM2Transforms(1024, 0.0).transform_coords(np.zeros((3, 3))))
    one_line(AssertionError, lambda: SAM2Transforms(1024, 0.0).transform_coords(np.zeros((3, 2)), normalize=True))


def test_building() -> None:
    config = "configs/sam2.1/sam2.1_hiera_t.yaml"
    for build in (build_sam.build_sam2, build_sam.build_sam2_video_predictor):
        one_line(ValueError, lambda build=build: build(config))
        one_line(ValueError, lambda build=build: build("configs/edgetam.yaml", "lite"))
        one_line(NotImplementedError, lambda build=build: build(config, "lite", mode="train"))
        for override in ("++model.num_maskmem=3", "++model.non_overlap_masks=1", "nonsense", "++model.image_size=512"):
            text = one_line(
                ValueError, lambda build=build, o=override: build(config, "lite", hydra_overrides_extra=[o])
            )
            assert override in text
    for build in (build_sam.build_sam2_hf, build_sam.build_sam2_video_predictor_hf):
        one_line(ValueError, lambda build=build: build("facebook/sam-vit-huge"))


def test_videos_that_are_none(tracker: SAM2VideoPredictor, tmp_path: Path) -> None:
    one_line(NotImplementedError, lambda: tracker.init_state(b"bytes"))  # type: ignore[arg-type]
    for path in (tmp_path, tmp_path / "absent.mp4"):
        with pytest.raises((samara.SamaraError, OSError)) as raised:
            tracker.init_state(path)
        assert "\n" not in str(raised.value)


FAULTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "nothing": ({"points": None, "labels": None}, ValueError),
    "no labels": ({"labels": None}, ValueError),
    "no points": ({"points": None}, ValueError),
    "a box that is added": ({"box": BOX, "clear_old_points": False}, ValueError),
    "two boxes": ({"box": np.stack([BOX, BOX])}, ValueError),
    "a box of three": ({"box": BOX[:3]}, ValueError),
    "two prompts": ({"points": np.stack([POINT, POINT]), "labels": np.ones((2, 1))}, ValueError),
    "no point": ({"points": np.zeros((0, 2)), "labels": np.zeros(0)}, samara.PromptError),
    "two labels": ({"labels": [1, 0]}, ValueError),
    "outside": ({"points": POINT * 10}, samara.PromptError),
    "pixels as shares": ({"normalize_coords": False}, samara.PromptError),
    "label 4": ({"labels": [4]}, samara.PromptError),
    "frame 5": ({"frame_idx": 5}, IndexError),
    "frame -1": ({"frame_idx": -1}, IndexError),
    "frame 1.5": ({"frame_idx": 1.5}, TypeError),
    "frame of text": ({"frame_idx": "0"}, TypeError),
    "an object without a hash": ({"obj_id": [1]}, TypeError),
    "no state": ({"inference_state": {}}, TypeError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_prompts_of_videos(tracker: SAM2VideoPredictor, state: InferenceState, name: str) -> None:
    fault, error = FAULTS[name]
    prompt: dict[str, Any] = {"inference_state": state, "frame_idx": 0, "obj_id": 1, "points": POINT, "labels": LABEL}
    one_line(error, lambda: tracker.add_new_points_or_box(**(prompt | fault)))
    assert state["obj_ids"] == state.session.objects == []
    tracker.add_new_points_or_box(**prompt)
    one_line(error, lambda: tracker.add_new_points_or_box(**(prompt | fault)))
    assert state["obj_ids"] == [1]
    assert state.track(1).clicks[0].points.tolist() == POINT.tolist()
    assert len(list(tracker.propagate_in_video(state))) == 5


@pytest.mark.parametrize(
    "mask", [np.zeros((1, 80, 120)), np.zeros(80), np.zeros((0, 120)), None, "mask.png", [[1], []]]
)
def test_masks(tracker: SAM2VideoPredictor, state: InferenceState, mask: Any) -> None:
    one_line(AssertionError, lambda: tracker.add_new_mask(state, 0, 1, mask))
    assert state["obj_ids"] == []


def test_frames_and_objects(tracker: SAM2VideoPredictor, state: InferenceState) -> None:
    one_line(RuntimeError, lambda: tracker.propagate_in_video_preflight(state))
    one_line(RuntimeError, lambda: next(iter(tracker.propagate_in_video(state))))
    one_line(RuntimeError, lambda: tracker.clear_all_prompts_in_frame(state, 0, 1))
    one_line(RuntimeError, lambda: tracker.remove_object(state, 1, strict=True))
    tracker.add_new_points_or_box(state, 0, 1, POINT, LABEL)
    one_line(IndexError, lambda: tracker.clear_all_prompts_in_frame(state, 9, 1))
    one_line(IndexError, lambda: next(iter(tracker.propagate_in_video(state, start_frame_idx=-1))))
    one_line(IndexError, lambda: next(iter(tracker.propagate_in_video(state, 5, reverse=True))))
    one_line(TypeError, lambda: next(iter(tracker.propagate_in_video(state, "0"))))  # type: ignore[arg-type]
    one_line(TypeError, lambda: tracker.reset_state({}))  # type: ignore[arg-type]
    loop = iter(tracker.propagate_in_video(state))
    next(loop)
    tracker.reset_state(state)
    one_line(samara.VideoError, lambda: next(loop))


def test_a_frame_that_cannot_be_read(tracker: SAM2VideoPredictor, frames: str, tmp_path: Path) -> None:
    for name in ("00000.jpg", "00001.jpg"):
        (tmp_path / name).write_bytes((Path(frames) / name).read_bytes())
    (tmp_path / "00002.jpg").write_bytes(b"nothing")
    state = tracker.init_state(tmp_path)
    tracker.add_new_points_or_box(state, 0, 1, POINT, LABEL)
    loop = iter(tracker.propagate_in_video(state))
    assert [next(loop)[0], next(loop)[0]] == [0, 1]
    one_line(samara.ImageError, lambda: next(loop))
    one_line(samara.ImageError, lambda: tracker.add_new_points_or_box(state, 2, 1, POINT, LABEL))
    assert [found[0] for found in tracker.propagate_in_video(state, max_frame_num_to_track=1)] == [0, 1]
