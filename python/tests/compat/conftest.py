"""Models and images."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import samara
from samara.compat.sam2.modeling.sam2_base import SAM2Base
from samara.compat.segment_anything import SamPredictor
from samara.compat.segment_anything.modeling import Sam

from .beside import Pair, official, random_sam2, randomise

PHOTO = Path(__file__).parents[3] / "docs" / "coffee.png"


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """A photograph of 600 by 400 pixels."""
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the photograph")
    return np.array(image.open(PHOTO).convert("RGB"))


@pytest.fixture(scope="session")
def shapes() -> NDArray[np.uint8]:
    """A white rectangle and a grey one on black, 120 by 80 pixels."""
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 10:50] = 255
    image[10:40, 70:110] = 128
    return image


@pytest.fixture(scope="session")
def sam() -> Sam:
    """The embedded model."""
    return Sam(samara.Segmenter())


@pytest.fixture(scope="session")
def lone_predictor(sam: Sam, shapes: NDArray[np.uint8]) -> SamPredictor:
    """A predictor with ``shapes``; tests do not set another image."""
    predictor = SamPredictor(sam)
    predictor.set_image(shapes)
    return predictor


@pytest.fixture(scope="session")
def sam2(sam: Sam) -> SAM2Base:
    """The embedded model in the place of a SAM 2: it has no memory, and carries masks through videos."""
    return SAM2Base(sam.segmenter)


@pytest.fixture(scope="session")
def sam2_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SAM 2.1 tiny with random weights, which the official package makes."""
    path = tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt"
    random_sam2(path)
    yield str(path)
    path.unlink()


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of 5 frames of 120 by 80 pixels, in which a white rectangle moves by 5 pixels to the right.

    They are PNG files, whatever their names say: the official package takes these names only, and what decoders make
    of a JPEG file differs by some grey levels.
    """
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the frames")
    folder = tmp_path_factory.mktemp("frames")
    for i in range(5):
        pixels = np.zeros((80, 120, 3), np.uint8)
        pixels[..., 1] = np.linspace(0, 60, 120)
        pixels[20:60, 10 + 5 * i : 50 + 5 * i] = 255
        image.fromarray(pixels).save(folder / f"{i:05d}.jpg", format="PNG")
    return str(folder)


@pytest.fixture
def sam2_installed() -> Iterator[None]:
    """A program that finds samara's package under the name of the official one."""

    def parts() -> list[str]:
        return [module for module in sys.modules if module == "sam2" or module.startswith("sam2.")]

    kept = {module: sys.modules.pop(module) for module in parts()}
    samara.compat.install("sam2")
    yield
    for module in parts():
        del sys.modules[module]
    sys.modules.update(kept)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without torch: importing it fails."""
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.fixture(scope="session", params=["vit_t", "vit_b"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]
) -> Iterator[Pair]:
    """MobileSAM as released, and a ViT-B with random weights; the photograph is set in both predictors."""
    name = {"vit_t": "mobile_sam", "vit_b": "segment_anything"}[request.param]
    theirs = official(name)
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if request.param == "vit_t":
            found = os.environ.get("SAMARA_MOBILE_SAM", "")
            if not Path(found).is_file():
                pytest.skip("SAMARA_MOBILE_SAM does not name the file mobile_sam.pt")
            their_sam = theirs.sam_model_registry["vit_t"](checkpoint=found)
        else:
            torch.manual_seed(0)
            their_sam = theirs.sam_model_registry["vit_b"]()
            randomise(their_sam)
            found = str(tmp_path_factory.mktemp("weights") / "vit_b.pt")
            torch.save(their_sam.state_dict(), found)
    mine = importlib.import_module(f"samara.compat.{name}")
    my_sam = mine.sam_model_registry[request.param](checkpoint=found)
    their_predictor, my_predictor = theirs.SamPredictor(their_sam.eval()), mine.SamPredictor(my_sam)
    their_predictor.set_image(photo)
    my_predictor.set_image(photo)
    yield Pair(request.param, theirs, mine, their_sam, my_sam, their_predictor, my_predictor)
    if request.param == "vit_b":
        Path(found).unlink()
