"""Makes the references that the tests of samara-image compare with, byte by byte.

    pip install pillow numpy pycocotools segment-anything opencv-python-headless torch torchvision
    python3 tests/golden/image_references.py

Everything is drawn from one generator with a fixed seed. Inputs are stored beside the expected
outputs, so the Rust tests need no generator of their own.
"""

import json
import pathlib

import numpy as np
from PIL import Image
from pycocotools import mask as coco
from segment_anything.utils.amg import batched_mask_to_box, remove_small_regions
from torchvision.transforms import Resize, ToTensor

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/samara-image/tests/golden"
RNG = np.random.default_rng(20240811)
FLOATS_EVERY = 11  # of torchvision's values; the test has the same number


def blobs(height, width, cells, threshold=0.5):
    """A random mask with smooth shapes of about the size of a cell."""
    coarse = RNG.integers(0, 256, (max(1, height // cells), max(1, width // cells)), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
    return np.asarray(smooth) > 255 * threshold


def adversarial_masks():
    """Name and mask: the shapes that break run-length coders."""
    yield "empty", np.zeros((5, 7), bool)
    yield "full", np.ones((5, 7), bool)
    yield "one_set", np.ones((1, 1), bool)
    yield "one_unset", np.zeros((1, 1), bool)
    first = np.zeros((9, 4), bool)
    first[0, 0] = True
    yield "first_pixel", first
    yield "last_pixel", first[::-1, ::-1].copy()
    y, x = np.mgrid[0:37, 0:70]
    yield "checkerboard", (x + y) % 2 == 0
    yield "vertical_stripes", x % 2 == 1
    yield "horizontal_stripes", y % 2 == 0
    yield "wide_stripes", (x // 16) % 2 == 1
    yield "one_row", RNG.random((1, 131)) < 0.5
    yield "one_column", RNG.random((131, 1)) < 0.5
    long = np.zeros((700, 300), bool)
    long[13:690, 20:280] = True
    long[300, 150] = False
    yield "long_runs", long
    growing = np.zeros(64 * 65, bool)
    at = 0
    for n in range(64):
        growing[at + n : at + 2 * n] = True
        at += 2 * n
    yield "growing_runs", growing.reshape(65, 64)
    for height, width in [(64, 64), (63, 65), (128, 127), (1, 64), (65, 1), (100, 33)]:
        yield f"noise_{height}x{width}", RNG.random((height, width)) < RNG.random()
    yield "blobs", blobs(120, 190, 20)


def packed(mask):
    """Row by row, lowest bit first, as hexadecimal."""
    return np.packbits(mask.astype(bool).ravel(), bitorder="little").tobytes().hex()


def rle_cases():
    cases = []
    for name, mask in adversarial_masks():
        rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        flat = mask.ravel(order="F").astype(np.int8)
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, flat.size]).tolist()
        cases.append(
            {
                "name": name,
                "size": list(mask.shape),
                "bits": packed(mask),
                "counts": ([0] if flat[0] else []) + runs,
                "compressed": rle["counts"].decode(),
                "area": int(coco.area(rle)),
                "bbox": [int(v) for v in coco.toBbox(rle)],
                "amg_box": batched_box(mask),
            }
        )
    return cases


def batched_box(mask):
    import torch

    return batched_mask_to_box(torch.from_numpy(mask)).tolist()


def polygon_cases():
    shapes = [
        (20, 30, [[2.0, 3.0, 25.0, 4.0, 20.0, 17.0]]),
        (20, 30, [[2.5, 3.5, 2.5, 15.5, 22.5, 15.5, 22.5, 3.5]]),
        (20, 30, [[-5.0, -5.0, 40.0, -3.0, 12.0, 33.0]]),
        (20, 30, [[0.0, 0.0, 30.0, 0.0, 30.0, 20.0, 0.0, 20.0]]),
        (20, 30, [[1.0, 1.0, 28.0, 18.0, 28.0, 1.0, 1.0, 18.0]]),
        (20, 30, [[3.0, 3.0, 3.0, 3.0, 15.0, 9.0, 9.0, 15.0, 9.0, 15.0]]),
        (20, 30, [[1.0, 1.0, 10.0, 1.0, 5.0, 9.0], [4.0, 2.0, 14.0, 4.0, 9.0, 14.0]]),
        (20, 30, [[5.1, 5.2, 5.3, 5.2, 5.2, 5.9]]),
        (20, 30, [[40.0, 3.0, 60.0, 4.0, 50.0, 17.0]]),
        (20, 30, [[4.0, 10.0, 20.0, 10.0, 28.0, 10.0]]),
        (1, 1, [[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]]),
    ]
    for _ in range(60):
        height, width = (int(v) for v in RNG.integers(1, 130, 2))
        rings = []
        for _ in range(int(RNG.integers(1, 4))):
            points = int(RNG.integers(3, 14))
            spread = RNG.uniform(-0.3, 1.3, (points, 2)) * [width, height]
            digits = int(RNG.integers(0, 3))
            rings.append(np.round(spread, digits).ravel().tolist())
        shapes.append((height, width, rings))
    for _ in range(6):
        height, width = 90, 120
        angle = np.linspace(0, 2 * np.pi, 80, endpoint=False)
        radius = 30 + 8 * np.sin(RNG.integers(2, 7) * angle + RNG.uniform(0, 6))
        ring = np.stack([60 + radius * np.cos(angle), 45 + radius * np.sin(angle)], 1)
        shapes.append((height, width, [np.round(ring, 2).ravel().tolist()]))
    cases = []
    for height, width, rings in shapes:
        merged = coco.merge(coco.frPyObjects(rings, height, width))
        cases.append(
            {
                "size": [height, width],
                "segmentation": rings,
                "compressed": merged["counts"].decode(),
            }
        )
    return cases


def region_cases():
    masks = [RNG.random((height, width)) < p for height, width, p in
             [(24, 31, 0.35), (24, 31, 0.6), (40, 70, 0.2), (33, 64, 0.8), (1, 40, 0.5), (40, 1, 0.5)]]
    masks += [blobs(60, 90, cells) for cells in (4, 7, 12)]
    masks += [np.zeros((6, 9), bool), np.ones((6, 9), bool)]
    ties = np.zeros((12, 16), bool)
    # Equal islands whose first pixels come in another order than their first 2x2 blocks.
    ties[1, 1:3] = ties[0, 7:9] = ties[5, 4:6] = True
    masks.append(ties)
    lone = np.zeros((8, 8), bool)
    lone[3, 3] = True
    masks.append(lone)
    for _ in range(25):
        masks.append(RNG.random((13, 17)) < 0.13)
    cases = []
    for mask in masks:
        for mode in ("holes", "islands"):
            for area in (1, 2, 6, 25, 10_000):
                result, changed = remove_small_regions(mask.copy(), area, mode)
                cases.append((mask, mode, area, result.astype(bool), bool(changed)))
    grouped = {}
    for mask, mode, area, result, changed in cases:
        entry = grouped.setdefault(id(mask), {"size": list(mask.shape), "bits": packed(mask), "runs": []})
        entry["runs"].append(
            {"mode": mode, "area": area, "bits": packed(result), "changed": changed}
        )
    return list(grouped.values())


def fnv(data):
    """FNV-1a of 64 bits."""
    total = 0xCBF29CE484222325
    for byte in data:
        total = ((total ^ byte) * 0x100000001B3) % (1 << 64)
    return total


def resize_cases(folder):
    """Inputs and outputs as raw bytes, one after the other, with an index in JSON.

    Of colour images also a digest of Pillow's bicubic bytes and some of torchvision's floats; not
    of a target one pixel wide, where PyTorch 2.15 repeats its first value.
    """
    y, x = np.mgrid[0:48, 0:64]
    gradient = np.stack([x * 4, y * 5, (x + y) * 2], -1).astype(np.uint8)
    noise = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    long = np.random.default_rng(7).integers(0, 256, (2003, 3001), dtype=np.uint8)
    extremes = (RNG.integers(0, 2, (41, 29, 3)) * 255).astype(np.uint8)
    sources = {
        "gradient": (gradient, [(64, 48), (16, 12), (100, 75), (64, 20), (31, 48), (1, 1), (7, 90)]),
        "noise": (noise, [(53, 37), (26, 18), (64, 45), (11, 37), (53, 5), (80, 3), (3, 60), (52, 36)]),
        "extremes": (extremes, [(13, 17), (60, 80), (29, 1), (1, 41), (28, 40)]),
        "row": (noise[:1].copy(), [(20, 1), (80, 4), (1, 1)]),
        "column": (noise[:, :1].copy(), [(1, 12), (5, 60)]),
        "pixel": (noise[:1, :1].copy(), [(3, 2)]),
        # Long enough for a centre in single precision to differ.
        "wide": (np.stack([long[i : i + 1] for i in range(3)], -1), [(1000, 1)]),
        "tall": (np.stack([long[:, i : i + 2] for i in range(3)], -1), [(2, 700)]),
    }
    blob, index = bytearray(), []

    def store(array):
        start = len(blob)
        blob.extend(array.tobytes())
        return start

    for name, (source, sizes) in sources.items():
        for channels in (3, 1):
            pixels = source if channels == 3 else np.ascontiguousarray(source[:, :, 0])
            offset = store(pixels)
            for size in sizes:
                image = Image.fromarray(pixels)
                case = {
                    "name": name,
                    "channels": channels,
                    "from": [source.shape[1], source.shape[0]],
                    "to": list(size),
                    "input": offset,
                    "output": store(np.asarray(image.resize(size, Image.BILINEAR))),
                }
                if channels == 3:
                    case["bicubic"] = fnv(image.resize(size, Image.BICUBIC).tobytes())
                if channels == 3 and size[0] > 1:
                    floats = Resize(size[::-1])(ToTensor()(image)).numpy().ravel()
                    case["floats"] = store(floats[::FLOATS_EVERY].astype("<f4"))
                index.append(case)
    (folder / "resize.bin").write_bytes(blob)
    return index


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    references = {
        "resize": resize_cases(OUT),
        "rle": rle_cases(),
        "polygons": polygon_cases(),
        "small_regions": region_cases(),
    }
    for name, cases in references.items():
        text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        (OUT / f"{name}.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
