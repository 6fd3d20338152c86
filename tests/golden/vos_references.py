"""References for the measures of video object segmentation, J and F of DAVIS 2017.

    pip install numpy opencv-python-headless scikit-image
    python tests/golden/vos_references.py                       # writes crates/samara-image/tests/golden/vos.json
    python tests/golden/vos_references.py --official metrics.py # and compares with davis2017/metrics.py

Both sides draw the masks from the same generator of random numbers, so the file holds the values
alone. The test is `crates/samara-image/tests/boundary.rs`.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
from skimage.morphology import disk

OUT = Path(__file__).parents[2] / "crates/samara-image/tests/golden/vos.json"
CASES = 400
WORD = (1 << 64) - 1
# Diagonals of 125 pixels and its multiples, where the tolerance is nearly whole; lines; full size.
SIZES = [(100, 75), (35, 120), (117, 44), (200, 150), (400, 300), (800, 600), (1, 1), (1, 2), (2, 1),
         (125, 1), (1, 126), (300, 1), (64, 64), (65, 128), (854, 480), (1920, 1080)]


class Random:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & WORD
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return (z ^ (z >> 31)) % n


def turn_disc(mask, x, y, radius):
    """Turns over a disc, whose parts outside are left out."""
    v, u = np.ogrid[: mask.shape[0], : mask.shape[1]]
    mask ^= (u - x) ** 2 + (v - y) ** 2 <= radius**2


def turn_box(mask, x, y, width, height):
    mask[y : y + height, x : x + width] ^= True


def shape(rng, width, height):
    mask = np.zeros((height, width), bool)
    kind = rng.below(12)
    if kind == 1:
        mask[:] = True
    elif kind == 2:
        mask[rng.below(height), rng.below(width)] = True
    elif kind > 2:
        for _ in range(1 + rng.below(4)):
            x, y = rng.below(width), rng.below(height)
            turn_disc(mask, x, y, rng.below(1 + max(width, height) // 3))
            x, y = rng.below(width), rng.below(height)
            turn_box(mask, x, y, 1 + rng.below(width), 1 + rng.below(height))
    return mask


def moved(mask, right, down):
    out = np.zeros_like(mask)
    out[down:, right:] = mask[: mask.shape[0] - down, : mask.shape[1] - right]
    return out


def pair(number):
    """A prediction and a truth: strangers, or one is the other moved and with small faults."""
    rng = Random(number)
    if number < 2 * len(SIZES):
        width, height = SIZES[number // 2]
    else:
        most = [12, 70, 260][number % 3]
        width, height = 1 + rng.below(most), 1 + rng.below(most)
    truth = shape(rng, width, height)
    if rng.below(6) == 0:
        return shape(rng, width, height), truth
    reach = 2 + (width + height) // 60
    prediction = moved(truth, min(rng.below(reach), width), min(rng.below(reach), height))
    for _ in range(rng.below(6)):
        x, y = rng.below(width), rng.below(height)
        turn_disc(prediction, x, y, rng.below(reach))
    return prediction, truth


def outline(mask):
    """Pixels unlike one of the three towards the right and the bottom; the edge repeats outwards."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[1:, :-1]) | (mask != padded[:-1, 1:]) | (mask != padded[1:, 1:])


def contour_f(prediction, truth):
    radius = int(np.ceil(0.008 * np.linalg.norm(truth.shape)))
    a, b = outline(prediction), outline(truth)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    near_a, near_b = (cv2.dilate(m.astype(np.uint8), disk(radius)).astype(bool) for m in (a, b))
    precision, recall = (a & near_b).sum() / a.sum(), (b & near_a).sum() / b.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def region_j(prediction, truth):
    union = (prediction | truth).sum()
    return float((prediction & truth).sum() / union) if union else 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, metavar="FILE")
    args = parser.parse_args()
    pairs = [pair(number) for number in range(CASES)]
    values = [(region_j(*masks), contour_f(*masks)) for masks in pairs]
    if args.official:
        spec = importlib.util.spec_from_file_location("official", args.official)
        official = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(official)
        for (prediction, truth), (j, f) in zip(pairs, values):
            assert abs(official.db_eval_iou(truth, prediction) - j) < 1e-12
            assert abs(official.db_eval_boundary(truth, prediction) - f) < 1e-12
        print(f"{CASES} cases equal the official evaluation")
    rows = (
        {"size": masks[0].shape[::-1], "areas": [int(m.sum()) for m in masks], "j": j, "f": f}
        for masks, (j, f) in zip(pairs, values)
    )
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    OUT.write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
