"""Compares `samara everything` with SamAutomaticMaskGenerator, on random weights and photographs.

    python tests/golden/compare_everything.py OUT --model mobile_sam

Makes OUT/MODEL.local.pth, random weights with local masks, when it is not there (local_masks.py);
the binary is target/release/samara or $SAMARA. Thresholds are quantiles of the model's own scores,
so that every filter is at work and hundreds of masks stay. The same masks must come in the same
order. Needs the packages of requirements.txt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")  # deprecation notices of timm

import mobile_sam
import numpy as np
import segment_anything
import skimage
import torch
from PIL import Image
from pycocotools import mask as coco

from full_models import BUILD, SEED
from local_masks import localise
from randomise import randomise

PHOTOS = [Path(skimage.__file__).parent / "data" / name for name in ("coffee.png", "chelsea.png")]
NEAR = 1e-3  # a score this near to a threshold may fall on its other side
MISSING = 0.005
MASK_IOU = 0.999  # or a single pixel, which in a small mask is more

CASES = {
    "plain": {"points_per_side": 16},
    "crops": {"points_per_side": 12, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
    "crops, clean": {
        "points_per_side": 12,
        "crop_n_layers": 1,
        "crop_n_points_downscale_factor": 2,
        "min_mask_region_area": 100,
    },
}


def official(package, sam, photo: Path, options: dict) -> list[dict]:
    generator = package.SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **options)
    return generator.generate(pixels(photo))


def pixels(photo: Path) -> np.ndarray:
    return np.array(Image.open(photo).convert("RGB"))


def ours(binary: str, checkpoint: Path, photo: Path, options: dict) -> list[dict]:
    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value!r}")
        for name, value in options.items()
        if value is not False
    ]
    with tempfile.TemporaryDirectory() as out:
        command = [binary, "everything", photo, "--checkpoint", checkpoint, "--precision", "fp32", "--format", "json"]
        subprocess.run([*command, *flags, "--out", out], check=True, stdout=subprocess.DEVNULL)
        return json.loads((Path(out) / f"{photo.name}.json").read_text())


def iou(a: dict, b: dict) -> float:
    return float(coco.iou([a["segmentation"]], [b["segmentation"]], [0])[0, 0])


def difference(a: dict, b: dict) -> tuple[float, int]:
    """IoU of two masks, and how many pixels differ."""
    masks = [a["segmentation"], b["segmentation"]]
    common, joined = (int(coco.area(coco.merge(masks, intersect=way))) for way in (True, False))
    return common / max(joined, 1), joined - common


def same(a: dict, b: dict) -> bool:
    """The same answer to the same point, whatever the pixels."""
    return (
        np.allclose(a["point_coords"], b["point_coords"], atol=1e-9)
        and a["crop_box"] == b["crop_box"]
        and abs(a["predicted_iou"] - b["predicted_iou"]) < 1e-3
        and iou(a, b) > 0.9
    )


def compare(expected: list[dict], found: list[dict], options: dict) -> tuple[str, bool]:
    """Walks through both lists; what only one of them has must have a score near a threshold."""
    i = j = pairs = 0
    only, far, worst, most, flipped, wrong = 0, 0, 1.0, 0, 0, 0
    scores = {"stability": 0.0, "iou": 0.0}
    near = lambda r: (
        abs(r["predicted_iou"] - options["pred_iou_thresh"]) < NEAR
        or abs(r["stability_score"] - options["stability_score_thresh"]) < NEAR
    )
    while i < len(expected) or j < len(found):
        if i < len(expected) and j < len(found) and same(expected[i], found[j]):
            a, b = expected[i], found[j]
            overlap, pixels_off = difference(a, b)
            worst, most = min(worst, overlap), max(most, pixels_off)
            flipped += pixels_off > 0
            wrong += overlap < MASK_IOU and pixels_off > 1
            scores["iou"] = max(scores["iou"], abs(a["predicted_iou"] - b["predicted_iou"]))
            scores["stability"] = max(
                scores["stability"], abs(a["stability_score"] - b["stability_score"])
            )
            if pixels_off == 0:
                assert a["bbox"] == b["bbox"] and a["area"] == b["area"]
            i, j, pairs = i + 1, j + 1, pairs + 1
            continue
        # Which list has one more here?
        longer = lambda a, i, b, j: any(
            i + k < len(a) and j < len(b) and same(a[i + k], b[j]) for k in range(1, 4)
        )
        if i < len(expected) and (j == len(found) or longer(expected, i, found, j)):
            only, far, i = only + 1, far + (not near(expected[i])), i + 1
        else:
            only, far, j = only + 1, far + (not near(found[j])), j + 1
    share = only / max(len(expected), 1)
    text = (
        f"{len(expected)} masks, {len(found)} of ours, {pairs} in the same order, smallest mask IoU "
        f"{worst:.5f} ({flipped} masks with flipped pixels, at most {most}), {only} in one list only ({far} of them without a score near a threshold), "
        f"largest difference of predicted IoU {scores['iou']:.1e}, stability {scores['stability']:.1e}"
    )
    return text, share <= MISSING and far == 0 and wrong == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="mobile_sam", choices=BUILD)
    args = parser.parse_args()
    binary = os.environ.get("SAMARA", "target/release/samara")
    package = mobile_sam if args.model == "mobile_sam" else segment_anything
    checkpoint = args.out / f"{args.model}.local.pth"
    sam = BUILD[args.model]()
    if checkpoint.exists():
        sam.load_state_dict(torch.load(checkpoint))
    else:
        randomise(sam, SEED)
        localise(package.SamPredictor(sam), pixels(PHOTOS[0]))
        torch.save(sam.state_dict(), checkpoint)
    sam.train().eval()

    good = True
    for photo in PHOTOS:
        free = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
        every = official(package, sam, photo, {"points_per_side": 8, **free})
        quantile = lambda key, q: round(float(np.nanquantile([r[key] for r in every], q)), 4)
        common = {
            "pred_iou_thresh": max(quantile("predicted_iou", 0.1), 0.0),
            "stability_score_thresh": quantile("stability_score", 0.1),
            "box_nms_thresh": 0.9,
        }
        print(photo.name, common, flush=True)
        for name, case in CASES.items():
            options = common | case
            expected = official(package, sam, photo, options)
            text, held = compare(expected, ours(binary, checkpoint, photo, options), options)
            print(f"  {name}: {text}{'' if held else '   <-- NOT THE SAME'}", flush=True)
            good &= held
    sys.exit(not good)


if __name__ == "__main__":
    main()
