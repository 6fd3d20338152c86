"""Segment-everything of SAM 2 beside the official generator, with and without use_m2m.

    python tests/golden/compare_everything_sam2.py OUT [--model sam2.1_tiny]

Makes OUT/MODEL.pth, every parameter random, when it is not there. Such masks fill the image, so all
boxes are alike: duplicates are left in (box_nms_thresh 1) and the scores' thresholds are put where a
fifth falls below. `SAMARA` names the binary (target/release/samara). Needs the packages of
requirements.txt.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

import sam2_models
from compare_everything import PHOTOS, compare, ours, pixels
from full_models import SEED
from randomise import randomise

BELOW = 0.2  # share of the masks that each score's threshold takes away


def official(sam, photo: Path, options: dict) -> list[dict]:
    generator = SAM2AutomaticMaskGenerator(sam, output_mode="coco_rle", **options)
    return generator.generate(pixels(photo))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="sam2.1_tiny", choices=sam2_models.CONFIGS)
    args = parser.parse_args()
    binary = os.environ.get("SAMARA", "target/release/samara")
    checkpoint = args.out / f"{args.model}.pth"
    sam = sam2_models.build(args.model)
    if checkpoint.exists():
        sam.load_state_dict(torch.load(checkpoint)["model"])
    else:
        randomise(sam, SEED)
        torch.save({"model": sam.state_dict()}, checkpoint)
    sam.eval()

    good = True
    for photo in PHOTOS:
        for use_m2m in (False, True):
            options = {"points_per_side": 8, "use_m2m": use_m2m, "box_nms_thresh": 1.0}
            free = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
            every = official(sam, photo, options | free)
            for key in ("predicted_iou", "stability_score"):
                threshold = float(np.nanquantile([r[key] for r in every], BELOW))
                name = "pred_iou_thresh" if key == "predicted_iou" else "stability_score_thresh"
                options[name] = round(threshold, 4)
            expected = official(sam, photo, options)
            text, held = compare(expected, ours(binary, checkpoint, photo, options), options)
            mark = "" if held else "   <-- NOT THE SAME"
            print(f"{photo.name}, use_m2m={use_m2m}: {text}{mark}", flush=True)
            good &= held
    sys.exit(not good)


if __name__ == "__main__":
    main()
