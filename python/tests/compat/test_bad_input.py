"""What makes no sense is refused by an exception of one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import samara
from samara.compat.segment_anything import SamAutomaticMaskGenerator, SamPredictor
from samara.compat.segment_anything.modeling import Sam
from samara.compat.segment_anything.utils import amg
from samara.compat.segment_anything.utils.transforms import ResizeLongestSide

POINT, LABEL = np.array([[30, 40]]), np.array([1])
NAN = float("nan")

IMAGES: dict[str, tuple[Any, type[Exception]]] = {
    "floats": (np.zeros((8, 9, 3), np.float32), TypeError),
    "wide integers": (np.zeros((8, 9, 3), np.int64), TypeError),
    "objects": (np.full((8, 9, 3), None), TypeError),
    "grey": (np.zeros((8, 9), np.uint8), ValueError),
    "with opacity": (np.zeros((8, 9, 4), np.uint8), ValueError),
    "colours first": (np.zeros((3, 8, 9), np.uint8), ValueError),
    "a batch": (np.zeros((1, 8, 9, 3), np.uint8), ValueError),
    "no row": (np.zeros((0, 9, 3), np.uint8), ValueError),
    "nothing": (None, TypeError),
    "text": ("photo.png", TypeError),
    "ragged": ([[1, 2], [3]], ValueError),
}


def one_line(error: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(error) as raised:
        call()
    text = str(raised.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", IMAGES)
def test_images(sam: Sam, name: str) -> None:
    image, error = IMAGES[name]
    predictor = SamPredictor(sam)
    for call in (predictor.set_image, SamAutomaticMaskGenerator(sam, 2).generate):
        text = one_line(error, lambda call=call: call(image))
        assert text.startswith("image: ")
    with pytest.raises(samara.SamaraError):
        predictor.set_image(image)
    assert not predictor.is_image_set


def test_image_formats(sam: Sam, shapes: NDArray[np.uint8]) -> None:
    one_line(AssertionError, lambda: SamPredictor(sam).set_image(shapes, "HSV"))


def test_views_are_images(sam: Sam, shapes: NDArray[np.uint8], lone_predictor: SamPredictor) -> None:
    expected = lone_predictor.predict(POINT, LABEL)[0]
    frozen = shapes.copy()
    frozen.flags.writeable = False
    strided = np.zeros((160, 240, 3), np.uint8)[::2, ::2]
    strided[:] = shapes
    for view in (shapes[:, ::-1].copy()[:, ::-1], frozen, strided, np.asfortranarray(shapes)):
        predictor = SamPredictor(sam)
        predictor.set_image(view)
        assert (predictor.predict(POINT, LABEL)[0] == expected).all()


def test_views_are_prompts(lone_predictor: SamPredictor) -> None:
    points, labels = np.array([[90, 25], [30, 40]]), np.array([0, 1])
    expected = lone_predictor.predict(points, labels)
    backwards = points[::-1].copy()[::-1], labels[::-1].copy()[::-1]
    frozen = points.copy()
    frozen.flags.writeable = False
    for prompt in (
        backwards,
        (frozen, labels.astype(bool)),
        (points.astype(np.float16), labels),
        (points.tolist(), [0, 1]),
    ):
        assert (lone_predictor.predict(*prompt)[0] == expected[0]).all()
    logits = expected[2][:1]
    frozen = np.asfortranarray(logits)
    frozen.flags.writeable = False
    masks = [lone_predictor.predict(points, labels, mask_input=mask)[0] for mask in (logits, frozen)]
    assert (masks[0] == masks[1]).all()


PROMPTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "nothing": ({}, samara.PromptError),
    "no labels": ({"point_coords": POINT}, AssertionError),
    "a flat point": ({"point_coords": POINT[0], "point_labels": LABEL}, ValueError),
    "three numbers": ({"point_coords": np.zeros((1, 3)), "point_labels": LABEL}, ValueError),
    "two labels": ({"point_coords": POINT, "point_labels": np.array([1, 0])}, ValueError),
    "label 2": ({"point_coords": POINT, "point_labels": np.array([2])}, samara.PromptError),
    "label nan": ({"point_coords": POINT, "point_labels": np.array([NAN])}, samara.PromptError),
    "no point": ({"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)}, samara.PromptError),
    "point nan": ({"point_coords": POINT * NAN, "point_labels": LABEL}, samara.PromptError),
    "point inf": ({"point_coords": POINT * np.inf, "point_labels": LABEL}, samara.PromptError),
    "complex": ({"point_coords": POINT * 1j, "point_labels": LABEL}, ValueError),
    "text": ({"point_coords": np.array([["a", "b"]]), "point_labels": LABEL}, ValueError),
    "ragged": ({"point_coords": [[1, 2], [3]], "point_labels": LABEL}, ValueError),
    "box of three": ({"box": np.array([1, 2, 3])}, ValueError),
    "two boxes": ({"box": np.array([[1, 2, 30, 40], [5, 6, 70, 80]])}, ValueError),
    "box nan": ({"box": np.array([1, 2, NAN, 40])}, samara.PromptError),
    "empty box": ({"box": np.zeros((0, 4))}, ValueError),
    "flat mask": ({"mask_input": np.zeros((256, 256))}, ValueError),
    "small mask": ({"mask_input": np.zeros((1, 64, 64))}, samara.PromptError),
    "mask of no row": ({"mask_input": np.zeros((1, 0, 0))}, ValueError),
    "long mask": ({"mask_input": np.zeros((1, 256, 128))}, ValueError),
    "mask nan": ({"mask_input": np.full((1, 256, 256), NAN)}, samara.PromptError),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts(lone_predictor: SamPredictor, name: str) -> None:
    prompt, error = PROMPTS[name]
    one_line(error, lambda: lone_predictor.predict(**prompt))


def test_a_point_outside_is_answered_and_told(lone_predictor: SamPredictor) -> None:
    with pytest.warns(UserWarning, match="^point_coords: 1 of 2 points lie outside the image of 120×80 pixels$"):
        masks, _, _ = lone_predictor.predict(np.array([[119, 79], [333, 41]]), np.ones(2))
    assert masks.shape == (3, 80, 120)


def test_the_message_names_the_number(lone_predictor: SamPredictor) -> None:
    points = np.array([[119, 79], [33, NAN]])
    assert one_line(samara.PromptError, lambda: lone_predictor.predict(points, np.ones(2))) == (
        "point_coords: nan at [0, 1, 1] is not a finite number"
    )


@pytest.mark.parametrize(
    "batch",
    [
        (np.zeros((2, 2)), np.zeros(2)),
        (np.ones((2, 1, 2)), np.ones((2, 2))),
        (np.ones((2, 1, 2)), None),
        (np.ones((2, 1, 2)), np.ones((2, 1)), np.ones((3, 4))),
        (None, None, np.ones((2, 2, 4))),
        (None, None, np.ones(4)),
        (None, None, None, np.zeros((1, 256, 256))),
        (None, None, np.array([[0, 0, 9, 9]] * 3), np.zeros((2, 1, 256, 256))),
        (None, None),
    ],
)
def test_batches(lone_predictor: SamPredictor, batch: tuple[Any, ...]) -> None:
    one_line(ValueError, lambda: lone_predictor.predict_torch(*batch))


def test_scaled_images(sam: Sam) -> None:
    predictor = SamPredictor(sam)
    for shape in ((3, 683, 1024), (1, 4, 683, 1024), (1, 3, 683, 1000)):
        one_line(AssertionError, lambda shape=shape: predictor.set_torch_image(np.zeros(shape), (80, 120)))
    one_line(ValueError, lambda: predictor.set_torch_image(np.zeros((2, 3, 683, 1024)), (80, 120)))
    one_line(ValueError, lambda: predictor.set_torch_image(np.zeros((1, 3, 683, 1024)), (120, 80)))
    one_line(ValueError, lambda: predictor.set_torch_image(np.zeros((1, 3, 683, 1024)), (80,)))
    one_line(ValueError, lambda: predictor.set_torch_image(np.zeros((1, 3, 683, 1024)), (0, 0)))
    one_line(ValueError, lambda: predictor.set_torch_image(np.full((1, 3, 683, 1024), NAN), (80, 120)))


@pytest.mark.parametrize(
    "features", [np.zeros((1, 256, 64, 63)), np.zeros((256, 64, 64)), np.full((1, 256, 64, 64), NAN)]
)
def test_features(sam: Sam, features: NDArray[Any]) -> None:
    predictor = SamPredictor(sam)
    predictor.features, predictor.is_image_set = features, True
    one_line(ValueError, lambda: predictor.predict(POINT, LABEL))
    predictor.original_size = (80, 120)
    one_line(ValueError, lambda: predictor.predict(POINT, LABEL))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"points_per_side": None}, AssertionError),
        ({"point_grids": [np.zeros((1, 2))]}, AssertionError),
        ({"output_mode": "png"}, AssertionError),
        ({"points_per_batch": 0}, ValueError),
        ({"stability_score_offset": NAN}, ValueError),
        ({"points_per_side": None, "point_grids": []}, ValueError),
        ({"points_per_side": None, "point_grids": [np.array([[2.0, 0.5]])]}, ValueError),
        ({"points_per_side": None, "point_grids": [np.zeros(3)]}, ValueError),
    ],
)
def test_options(sam: Sam, options: dict[str, Any], error: type[Exception]) -> None:
    one_line(error, lambda: SamAutomaticMaskGenerator(sam, **options))


def test_models() -> None:
    one_line(TypeError, lambda: Sam("vit_b"))  # type: ignore[arg-type]
    sizes = {"input_size": (683, 1000), "original_size": (80, 120)}
    logits = np.zeros((1, 1, 256, 256))
    one_line(ValueError, lambda: Sam(samara.Segmenter()).postprocess_masks(logits, **sizes))

    class Other:
        class image_encoder:
            img_size = 1024

        image_format = "RGB"

    one_line(TypeError, lambda: SamPredictor(Other()).set_image(np.zeros((8, 9, 3), np.uint8)))  # type: ignore[arg-type]


def test_tools() -> None:
    one_line(ValueError, lambda: amg.rle_to_mask({"size": [2, 3], "counts": [1, 2]}))
    one_line(ValueError, lambda: amg.rle_to_mask({"size": [2, 3], "counts": [7, -1]}))
    one_line(AssertionError, lambda: amg.remove_small_regions(np.zeros((3, 3), bool), 1, "edges"))
    one_line(AssertionError, lambda: next(amg.batch_iterator(2, [1], [1, 2])))
    one_line(AssertionError, lambda: next(amg.batch_iterator(2)))
    transform = ResizeLongestSide(64)
    one_line(TypeError, lambda: transform.apply_image(np.zeros((3, 3, 3))))
    one_line(ValueError, lambda: transform.apply_image(np.zeros((3, 0, 3), np.uint8)))
    one_line(ValueError, lambda: transform.apply_coords(np.zeros((3, 3)), (4, 5)))
    one_line(ValueError, lambda: transform.apply_coords(np.zeros((3, 2)), (0, 5)))
