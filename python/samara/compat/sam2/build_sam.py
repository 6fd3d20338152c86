"""Models from checkpoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from samara import Segmenter

from .modeling.sam2_base import SAM2Base
from .sam2_video_predictor import SAM2VideoPredictor

Checkpoint = str | os.PathLike[str]

_SIZES = {"t": "tiny", "s": "small", "b+": "base-plus", "l": "large"}
_ARCHITECTURES = {
    f"{version}_hiera_{letter}": f"{version}-{size}"
    for version in ("sam2", "sam2.1")
    for letter, size in _SIZES.items()
}

HF_MODEL_ID_TO_FILENAMES: dict[str, tuple[str, str]] = {
    f"facebook/{version}-hiera-{size}": (
        f"configs/{version}/{version}_hiera_{letter}.yaml",
        f"{version}_hiera_{size.replace('-', '_')}.pt",
    )
    for version in ("sam2", "sam2.1")
    for letter, size in _SIZES.items()
}
"""Configuration and checkpoint of each released model."""

_SWITCHES = ("non_overlap_masks", "clear_non_cond_mem_around_input", "add_all_frames_to_correct_as_cond", "keep_all")
_AS_IT_IS = {
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": "true",
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": "0.05",
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": "0.98",
    "binarize_mask_from_pts_for_mem_enc": "true",
    "compile_image_encoder": None,
    "image_size": "1024",
}
"""What the engine does in any case; None for what makes no difference."""


def build_sam2(
    config_file: str,
    ckpt_path: Checkpoint | None = None,
    device: Any = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SAM2Base:
    """The model of a checkpoint, for images.

    Parameters
    ----------
    config_file : str
        The configuration, such as ``"configs/sam2.1/sam2.1_hiera_t.yaml"``; only its name counts.
    ckpt_path : str or path-like
        A file, or the name of a released model that was downloaded.
    device
        Of no effect: the engine computes on the CPU.
    mode : {"eval"}
    hydra_overrides_extra : list of str, optional
        Settings, such as ``"++model.non_overlap_masks=true"``.
    apply_postprocessing : bool, default True
        Of no effect here: a single mask that is not stable gives way to the best of three in any case.
    **kwargs
        Of no effect.

    Raises
    ------
    ValueError
        There is no such configuration or setting, or no checkpoint given.
    RuntimeError
        The checkpoint is of another architecture.
    """
    _settings(hydra_overrides_extra)
    return SAM2Base(_load(config_file, ckpt_path, mode))


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: Checkpoint | None = None,
    device: Any = "cuda",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """The model of a checkpoint, for videos.

    Parameters
    ----------
    config_file, ckpt_path, device, mode, **kwargs
        As of :func:`build_sam2`.
    hydra_overrides_extra : list of str, optional
        Settings of :class:`SAM2VideoPredictor`, such as ``"++model.non_overlap_masks=true"``.
    apply_postprocessing : bool, default True
        Fills holes of up to 8 cells of the low-resolution logits.
    vos_optimized : bool, default False
        Of no effect.

    Raises
    ------
    ValueError, RuntimeError
        As of :func:`build_sam2`.
    """
    settings = _settings(hydra_overrides_extra)
    if apply_postprocessing:
        # As in the official package, this outdoes what is given.
        settings["fill_hole_area"] = 8
    return SAM2VideoPredictor(_load(config_file, ckpt_path, mode), **settings)


def build_sam2_hf(model_id: str, **kwargs: Any) -> SAM2Base:
    """The released model of this id, such as ``"facebook/sam2.1-hiera-tiny"``, for images.

    Samara's own name, such as ``"sam2.1-tiny"``, does as well. The model is looked up among those that Samara has
    downloaded; nothing is fetched.

    Raises
    ------
    FileNotFoundError
        It is not there; the message says where to put it.
    """
    return build_sam2(*_released(model_id), **kwargs)


def build_sam2_video_predictor_hf(model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
    """As :func:`build_sam2_hf`, for videos."""
    return build_sam2_video_predictor(*_released(model_id), **kwargs)


def _released(model_id: str) -> tuple[str, str]:
    """Configuration of a released model, and its name in Samara."""
    for known, (config_file, _) in HF_MODEL_ID_TO_FILENAMES.items():
        name = _architecture(config_file)
        if model_id in (known, name):
            return config_file, name
    raise ValueError(f"model_id: {model_id!r}, expected one of {', '.join(HF_MODEL_ID_TO_FILENAMES)}")


def _architecture(config_file: str) -> str:
    """What :attr:`samara.Segmenter.architecture` calls the architecture of a configuration."""
    name = os.path.basename(os.fspath(config_file)).removesuffix(".yaml")
    if name not in _ARCHITECTURES:
        raise ValueError(f"config_file: {config_file!r}, expected one of {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[name]


def _load(config_file: str, checkpoint: Checkpoint | None, mode: str) -> Segmenter:
    if mode != "eval":
        raise NotImplementedError(f"mode: {mode!r}; this model only answers, expected 'eval'")
    architecture = _architecture(config_file)
    if checkpoint is None:
        raise ValueError(f"{config_file}: no checkpoint given, and a model of random weights finds nothing")
    segmenter = Segmenter(checkpoint, precision="fp32")
    if segmenter.architecture != architecture:
        raise RuntimeError(
            f"{os.fspath(checkpoint)}: a checkpoint of {segmenter.architecture}, and '{config_file}' is {architecture}"
        )
    return segmenter


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Settings of the video predictor among overrides of the configuration."""
    settings: dict[str, Any] = {}
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        name, value = name.removeprefix("model."), value.lower()
        if name in _SWITCHES and value in ("true", "false"):
            settings[name] = value == "true"
        elif name == "fill_hole_area" and value.isdecimal():
            settings[name] = int(value)
        elif name not in _AS_IT_IS or _AS_IT_IS[name] not in (None, value):
            raise ValueError(f"hydra_overrides_extra: {override!r} is not offered by samara.compat")
    return settings
