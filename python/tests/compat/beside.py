"""The official packages, and how near to them this one is."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samara.compat.segment_anything import SamPredictor
from samara.compat.segment_anything.modeling import Sam


def official(name: str) -> ModuleType:
    """An official package with its tools, or a skipped test."""
    pytest.importorskip("torch", reason="the official packages need torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for module in ("utils.amg", "utils.transforms"):
                importlib.import_module(f"{name}.{module}")
            package = importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"the official {name} cannot be imported: {error}")
    if "samara" in (package.__file__ or ""):
        pytest.fail(f"{name} is samara's")
    return package


@dataclass
class Pair:
    """The same weights in the official package and in this one."""

    key: str
    theirs: ModuleType
    mine: ModuleType
    their_sam: Any
    my_sam: Sam
    their_predictor: Any
    my_predictor: SamPredictor


def randomise(model: Any) -> None:
    """Gives values to the weights that training starts with zeros, such as positions."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)


SAM2_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


def official_sam2() -> ModuleType:
    """The official ``sam2`` with its parts, or a skipped test."""
    pytest.importorskip("torch", reason="the official packages need torch")
    names = ("build_sam", "sam2_image_predictor", "sam2_video_predictor", "automatic_mask_generator", "utils.misc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                importlib.import_module(f"sam2.{name}")
            package = importlib.import_module("sam2")
        except ImportError as error:
            pytest.skip(f"the official sam2 cannot be imported: {error}")
    if "samara" in (package.__file__ or ""):
        pytest.fail("sam2 is samara's")
    return package


def random_sam2(path: Path) -> None:
    """Saves a SAM 2.1 tiny with random weights whose logits are as large as those of a trained one."""
    theirs = official_sam2()
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = theirs.build_sam.build_sam2(SAM2_CONFIG, device="cpu")
        randomise(model)
        decoder = model.sam_mask_decoder
        decoder.pred_obj_score_head.layers[-1].bias += 3
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 200
            mlp.layers[-1].bias *= 200
        torch.save({"model": model.state_dict()}, path)


def numpy_of(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def assert_masks_agree(mine: Any, theirs: Any, least: float = 0.999) -> None:
    """The masks have the same shape and type, and each has at least this IoU with its counterpart."""
    assert type(mine) is type(theirs)
    mine, theirs = numpy_of(mine), numpy_of(theirs)
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    assert mine.dtype == np.bool_
    union = (mine | theirs).sum(axis=(-2, -1))
    iou = np.where(union > 0, (mine & theirs).sum(axis=(-2, -1)) / np.maximum(union, 1), 1.0)
    print(f"least IoU of {iou.size} masks: {iou.min():.6f}")
    assert iou.min() >= least


def assert_numbers_agree(mine: Any, theirs: Any, within: float) -> None:
    """The numbers have the same shape and type, and differ by no more than this."""
    assert type(mine) is type(theirs)
    mine, theirs = numpy_of(mine), numpy_of(theirs)
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    difference = np.abs(mine - theirs).max(initial=0.0)
    print(f"largest difference of {mine.size} numbers: {difference:.2e}")
    assert difference <= within
