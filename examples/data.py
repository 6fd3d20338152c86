#!/usr/bin/env python3
"""Makes a small data set from a public package, in the form that `samara eval`, `train`, `quality` and `levels` read.

    pip install scikit-image
    python3 examples/data.py data

writes `data/coins`: Greek coins from Pompeii (Brooklyn Museum, no known copyright; 24 coins in one photograph of
scikit-image), enlarged fourfold and cut into four overlapping images, two for training and two for measuring. Masks come
from edges and a watershed, as in scikit-image's own example.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage import data, filters, io, measure, segmentation, transform

CATEGORY = {"id": 1, "name": "coin"}
# Smaller regions are dirt.
LEAST_AREA = 600


def coins() -> tuple[np.ndarray, np.ndarray]:
    """The photograph and a label for each coin."""
    image = data.coins()
    markers = np.zeros_like(image, dtype=np.int32)
    markers[image < 30] = 1
    markers[image > 150] = 2
    regions = segmentation.watershed(filters.sobel(image), markers)
    filled = ndimage.binary_fill_holes(regions - 1)
    labels = measure.label(ndimage.binary_opening(filled, iterations=3))
    size = tuple(4 * side for side in image.shape)
    image = transform.resize(image, size, order=3, preserve_range=True).clip(0, 255)
    labels = transform.resize(labels, size, order=0, preserve_range=True, anti_aliasing=False)
    return image.astype(np.uint8), labels.astype(np.int32)


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths: down the columns, beginning with unset pixels."""
    values = mask.T.ravel().astype(np.int8)
    changes = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *changes, values.size]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if values[0] else runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where the sets go")
    root = parser.parse_args().folder / "coins"
    if root.exists():
        parser.error(f"{root} exists already")
    (root / "images").mkdir(parents=True)
    image, labels = coins()
    height, width = (2 * side // 3 for side in image.shape)
    images, annotations = [], []
    for number, (top, left) in enumerate(
        [(0, 0), (0, image.shape[1] - width), (image.shape[0] - height, 0), (image.shape[0] - height, image.shape[1] - width)]
    ):
        name = f"coins{number}.png"
        cut = np.s_[top : top + height, left : left + width]
        io.imsave(root / "images" / name, np.stack([image[cut]] * 3, axis=-1))
        images.append(
            {
                "id": number,
                "file_name": name,
                "width": width,
                "height": height,
                "split": "train" if number < 2 else "val",
            }
        )
        for label in np.unique(labels[cut])[1:]:
            mask = labels[cut] == label
            if mask.sum() < LEAST_AREA:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CATEGORY["id"],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": run_lengths(mask),
                }
            )
    document = {"images": images, "annotations": annotations, "categories": [CATEGORY]}
    (root / "annotations.json").write_text(json.dumps(document))
    print(f"{root}: {len(images)} images, {len(annotations)} coins")


if __name__ == "__main__":
    main()
