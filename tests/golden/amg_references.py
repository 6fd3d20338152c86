"""10 000 cases of the functions in the official `utils/amg.py` and what they give.

    python tests/golden/amg_references.py            # writes crates/samara/tests/golden/amg.bin
    python tests/golden/amg_references.py --show 123 # what case 123 gives

Both sides draw the inputs from the same generator of random numbers, so the file holds one number of
64 bits for each case: a digest of all that the function gives. The test is
`crates/samara/src/everything/amg_tests.rs`. Needs the packages of requirements.txt, and opencv.
"""

import argparse
import struct
from pathlib import Path

import numpy as np
import torch
from segment_anything.utils import amg
from torchvision.ops.boxes import batched_nms

CASES = 10_000
OUT = Path(__file__).parents[2] / "crates/samara/tests/golden/amg.bin"
WORD = (1 << 64) - 1


class Random:
    """SplitMix64."""

    def __init__(self, seed: int):
        self.state = seed

    def word(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & WORD
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        return self.word() % n


def mask(rng: Random) -> np.ndarray:
    """Rectangles, each turning over what is there, then single pixels."""
    width, height = 1 + rng.below(48), 1 + rng.below(48)
    pixels = np.zeros((height, width), dtype=bool)
    for _ in range(rng.below(6)):
        x, y = rng.below(width), rng.below(height)
        w, h = 1 + rng.below(width), 1 + rng.below(height)
        pixels[y : y + h, x : x + w] ^= True
    for _ in range(rng.below(12)):
        x, y = rng.below(width), rng.below(height)
        pixels[y, x] ^= True
    return pixels


def rle(pixels: np.ndarray) -> list[int]:
    return amg.mask_to_rle_pytorch(torch.as_tensor(pixels)[None])[0]["counts"]


def run_lengths(rng: Random) -> list[int]:
    pixels = mask(rng)
    found = amg.mask_to_rle_pytorch(torch.as_tensor(pixels)[None])[0]
    assert (amg.rle_to_mask(found) == pixels).all()
    text = amg.coco_encode_rle(found)["counts"].encode()
    box = amg.batched_mask_to_box(torch.as_tensor(pixels))
    return [*found["counts"], amg.area_from_rle(found), *text, *box.tolist(), *amg.box_xyxy_to_xywh(box).tolist()]


def small_regions(rng: Random) -> list[int]:
    pixels, area = mask(rng), rng.below(40)
    out = []
    for mode in ("holes", "islands"):
        pixels, changed = amg.remove_small_regions(pixels, area, mode)
        out += [int(changed), *rle(pixels)]
    return out


def crops(rng: Random) -> list[int]:
    height, width = 1 + rng.below(3000), 1 + rng.below(3000)
    layers, ratio = rng.below(4), rng.below(1000) / 1000
    boxes, of_layer = amg.generate_crop_boxes((height, width), layers, ratio)
    if any(x0 >= x1 or y0 >= y1 for x0, y0, x1, y1 in boxes):
        return []  # a crop without pixels, on which the official generator fails
    return [v for box, layer in zip(boxes, of_layer) for v in (*box, layer)]


def uncropped(rng: Random) -> list[int]:
    pixels = mask(rng)
    height, width = pixels.shape
    x0, y0 = rng.below(60), rng.below(60)
    full_w, full_h = x0 + width + rng.below(60), y0 + height + rng.below(60)
    crop = [x0, y0, x0 + width, y0 + height]
    full = amg.uncrop_masks(torch.as_tensor(pixels)[None], crop, full_h, full_w)
    box = amg.batched_mask_to_box(torch.as_tensor(pixels)[None])
    near = amg.is_box_near_crop_edge(box, crop, [0, 0, full_w, full_h])
    return [*rle(full[0].numpy()), *amg.uncrop_boxes_xyxy(box, crop)[0].tolist(), int(near[0])]


def grids(rng: Random) -> list[int]:
    side, layers, scale = 1 + rng.below(64), rng.below(4), 1 + rng.below(3)
    if int(side / scale**layers) == 0:
        return []  # no points, on which the official function fails
    grid = amg.build_all_layer_point_grids(side, layers, scale)
    return [struct.unpack("<Q", struct.pack("<d", v))[0] for layer in grid for v in layer.flatten()]


def suppression(rng: Random) -> list[int]:
    boxes, scores = [], []
    for _ in range(rng.below(60)):
        x, y = rng.below(40), rng.below(40)
        boxes.append([x, y, x + rng.below(30), y + rng.below(30)])
        scores.append(rng.below(20) / 20)
    thresh = rng.below(100) / 100
    kept = batched_nms(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.tensor(scores).float(),
        torch.zeros(len(boxes)),
        iou_threshold=thresh,
    )
    return kept.tolist()


KINDS = [run_lengths, small_regions, crops, uncropped, grids, suppression]


def digest(values: list[int]) -> int:
    total = 0xCBF29CE484222325
    for value in values:
        total = ((total ^ (value & WORD)) * 0x100000001B3) & WORD
        total ^= total >> 29
    return total


def case(number: int) -> list[int]:
    return KINDS[number % len(KINDS)](Random(number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", type=int, metavar="CASE")
    args = parser.parse_args()
    if args.show is not None:
        print(KINDS[args.show % len(KINDS)].__name__, case(args.show))
        return
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_bytes(struct.pack(f"<{CASES}Q", *(digest(case(i)) for i in range(CASES))))


if __name__ == "__main__":
    main()
