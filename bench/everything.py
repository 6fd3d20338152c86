"""Segment everything beside the official generator: same weights, photograph, points, thresholds.

    python bench/everything.py CHECKPOINT PHOTO [--model vit_b] [--rounds 1] [--precision fp32|bf16]

In bf16 the official generator runs within `torch.autocast`. Takes turns in processes of their own; seconds are those of embedding and masks, without loading. The
binary is target/release/samara or $SAMARA. `tests/golden/compare_everything.py` makes weights with
local masks. Needs the packages of tests/golden/requirements.txt.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

THRESHOLDS = {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.3}


def official(args: argparse.Namespace) -> None:
    """The child process of the official generator; prints JSON."""
    import warnings

    warnings.filterwarnings("ignore")
    import numpy as np
    import torch
    from PIL import Image

    if args.model == "mobile_sam":
        import mobile_sam as package

        registry = package.sam_model_registry["vit_t"]
    else:
        import segment_anything as package

        registry = package.sam_model_registry[args.model]
    torch.set_num_threads(os.cpu_count())
    sam = registry(checkpoint=args.checkpoint).eval()
    generator = package.SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **THRESHOLDS)
    photo = np.array(Image.open(args.photo).convert("RGB"))
    # The generator turns logits into NumPy arrays, which have no bf16.
    decode = sam.mask_decoder.forward
    sam.mask_decoder.forward = lambda **inputs: tuple(output.float() for output in decode(**inputs))
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
        masks = generator.generate(photo)
    print(json.dumps({"seconds": time.perf_counter() - start, "masks": len(masks)}))


def turn(command: list[str]) -> tuple[str, float]:
    """Standard output and peak memory (MB) of a process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return text, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("photo")
    parser.add_argument("--model", default="vit_b")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--official", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.official:
        return official(args)

    binary = os.environ.get("SAMARA", "target/release/samara")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in THRESHOLDS.items()]
    rows = {"samara": [], "official": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as out:
            command = [binary, "everything", args.photo, "--checkpoint", args.checkpoint]
            command += ["--precision", args.precision]
            text, memory = turn([*command, *flags, "--format", "json", "--out", out])
            masks, seconds = re.search(r": (\d+) masks .* in ([\d.]+) s", text).groups()
            rows["samara"].append((float(seconds), memory, int(masks)))
        text, memory = turn([sys.executable, *sys.argv, "--official"])
        found = json.loads(text)
        rows["official"].append((found["seconds"], memory, found["masks"]))
    for name, turns in rows.items():
        seconds, memory = (statistics.median(t[i] for t in turns) for i in (0, 1))
        print(f"{name:10} {seconds:8.1f} s {memory:8.0f} MB  {turns[0][2]} masks")
    ratio = [b[0] / a[0] for a, b in zip(rows["samara"], rows["official"])]
    print(f"official / samara: {statistics.median(ratio):.1f}x in time")


if __name__ == "__main__":
    main()
