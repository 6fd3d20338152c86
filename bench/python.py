"""`samara.compat` beside the official packages in one Python process: same weights, photograph and prompts.

    python bench/python.py CHECKPOINT PHOTO [--model vit_b] [--rounds 5] [--generate]

Takes turns: every job once by each of the two, then the next round. Rows have medians, and the ratio official / Samara
as the median over the rounds with its range; masks are compared while they are measured. Peak memory is that of a
process of each, which does all jobs once. With `-` as CHECKPOINT the weights are random. Needs the wheel beside the
packages of bench/requirements.txt.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

warnings.filterwarnings("ignore")

PACKAGES = {"vit_t": "mobile_sam"} | dict.fromkeys(("vit_b", "vit_l", "vit_h"), "segment_anything")
SIDES = ("official", "samara")
BOXES = 64


def package(side: str, model: str) -> Any:
    """The official package for a model, or the one of Samara."""
    name = PACKAGES[model]
    return importlib.import_module(name if side == "official" else f"samara.compat.{name}")


def jobs(side: str, args: argparse.Namespace) -> dict[str, Callable[[], np.ndarray]]:
    """What is measured, by name; every job returns masks."""
    module = package(side, args.model)
    sam = module.sam_model_registry[args.model](checkpoint=args.checkpoint)
    sam.eval()
    predictor = module.SamPredictor(sam)
    photo = np.array(Image.open(args.photo).convert("RGB"))
    height, width = photo.shape[:2]
    click = {"point_coords": np.array([[width / 2, height / 2]]), "point_labels": np.array([1])}
    corners = np.random.default_rng(0).uniform(0, 0.6, (BOXES, 2))
    sizes = np.random.default_rng(1).uniform(0.1, 0.4, (BOXES, 2))
    boxes = np.concatenate([corners, corners + sizes], 1) * [width, height, width, height]
    boxes = predictor.transform.apply_boxes_torch(torch.as_tensor(boxes, dtype=torch.float32), (height, width))

    def first_click() -> np.ndarray:
        predictor.set_image(photo)
        return predictor.predict(**click)[0]

    def next_click() -> np.ndarray:
        return predictor.predict(**click)[0]

    def many_boxes() -> np.ndarray:
        with torch.inference_mode():
            return predictor.predict_torch(None, None, boxes)[0].numpy()

    found = {"set_image and predict": first_click, "predict": next_click, f"predict_torch, {BOXES} boxes": many_boxes}
    if args.generate:
        generator = module.SamAutomaticMaskGenerator(sam, pred_iou_thresh=0.8, stability_score_thresh=0.3)

        def generate() -> np.ndarray:
            return np.array([record["segmentation"] for record in generator.generate(photo)])

        found["generate"] = generate
    return found


def agreement(a: np.ndarray, b: np.ndarray) -> str:
    """The lowest IoU of masks in the same places."""
    if a.shape != b.shape:
        return f"{len(a)} and {len(b)} masks"
    flat = (m.reshape(-1, m.shape[-1] * m.shape[-2]) for m in (a, b))
    lowest = min(((x & y).sum() / max((x | y).sum(), 1) for x, y in zip(*flat, strict=True)), default=1.0)
    return f"IoU >= {lowest:.5f}"


def memory(side: str, args: argparse.Namespace) -> float:
    """Peak memory in MB of a process that does all jobs once."""
    command = [sys.executable, __file__, args.checkpoint, args.photo, "--model", args.model, "--memory-of", side]
    command += ["--generate"] if args.generate else []
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def compare(args: argparse.Namespace) -> None:
    both = {side: jobs(side, args) for side in SIDES}
    print(f"{'':26} {'official':>10} {'samara':>10}   ratio (range)")
    for job in both["samara"]:
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        answers: dict[str, np.ndarray] = {}
        rounds = 1 if job == "generate" else args.rounds
        for turn in range(rounds + (rounds > 1)):  # the first one warms up
            for side in SIDES:
                start = time.perf_counter()
                answers[side] = both[side][job]()
                if turn or rounds == 1:
                    times[side].append((time.perf_counter() - start) * 1000)
        ratios = [a / b for a, b in zip(times["official"], times["samara"], strict=True)]
        medians = [statistics.median(times[side]) for side in SIDES]
        spread = f"{statistics.median(ratios):5.1f}x ({min(ratios):.1f}-{max(ratios):.1f})"
        row = f"{job:26} {medians[0]:7.1f} ms {medians[1]:7.1f} ms  {spread}  {agreement(*answers.values())}"
        print(row, flush=True)
    peaks = [memory(side, args) for side in SIDES]
    print(f"{'peak memory':26} {peaks[0]:7.0f} MB {peaks[1]:7.0f} MB  {peaks[0] / peaks[1]:5.1f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("photo")
    parser.add_argument("--model", default="vit_b", choices=PACKAGES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--generate", action="store_true", help="also all masks of the image, once")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    if args.memory_of:
        for job in jobs(args.memory_of, args).values():
            job()
        # What `getrusage` tells has the memory of the parent in it.
        status = Path("/proc/self/status").read_text()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.checkpoint == "-":
            args.checkpoint = str(Path(folder) / "random.pth")
            torch.manual_seed(0)
            torch.save(package("official", args.model).sam_model_registry[args.model]().state_dict(), args.checkpoint)
        compare(args)


if __name__ == "__main__":
    main()
