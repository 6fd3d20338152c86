"""SAM 2 and 2.1 in the released sizes, as the official package builds them. Needs: sam2."""

import warnings

warnings.filterwarnings("ignore")  # deprecation notices of hydra

from sam2.build_sam import build_sam2, build_sam2_video_predictor

SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
CONFIGS = {
    f"{version}_{size}": f"configs/{version}/{version}_hiera_{letter}.yaml"
    for version in ("sam2", "sam2.1")
    for size, letter in SIZES.items()
}


def build(name: str):
    """A model for images, with untrained weights."""
    return build_sam2(CONFIGS[name], device="cpu")


def build_video(name: str):
    """A model for video, with untrained weights."""
    return build_sam2_video_predictor(CONFIGS[name], device="cpu")
