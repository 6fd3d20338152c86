"""SAM 2 of the transformers library beside `samara segment`: same random weights, same photo, one click.

    python compare_transformers.py OUT [--samara target/release/samara]

Writes a Sam2VideoModel with the names of transformers to OUT/model.safetensors, and compares embedding,
logits and scores. The exit status is 1 if a bar is missed. Needs the packages of requirements.txt.
"""

import argparse
import subprocess
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file
from sam2.utils.transforms import SAM2Transforms
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

from full_models import PHOTO, SEED
from randomise import randomise

BARS = {"embedding": 1e-4, "logits": 1e-4, "iou": 1e-4}
SIDE = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--samara", default="target/release/samara")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.out)
    photo = Image.open(PHOTO).convert("RGB")
    point = [round(0.55 * photo.width), round(0.45 * photo.height)]
    wanted, found = theirs(args.out, photo, point), ours(args, point)
    good = True
    for name, bar in BARS.items():
        a, b = found[name], wanted[name]
        error = np.abs(a - b).max() if name == "iou" else np.linalg.norm(a - b) / np.linalg.norm(b)
        good &= bool(error <= bar)
        print(f"{name:10} {error:.2e}  (bar {bar:g})")
    sys.exit(not good)


def write_model(out: Path) -> None:
    model = Sam2VideoModel(Sam2VideoConfig()).eval()
    randomise(model, SEED)
    # One matrix under two names, which released files have equal.
    shared = model.shared_image_embedding.positional_embedding.data
    model.prompt_encoder.shared_embedding.positional_embedding.data.copy_(shared)
    model.save_pretrained(out)


@torch.no_grad()
def theirs(out: Path, photo: Image.Image, point: list[int]) -> dict[str, np.ndarray]:
    model = Sam2Model.from_pretrained(out).eval()
    pixels = SAM2Transforms(SIDE, 0.0)(np.array(photo))[None]
    at = [x / size * SIDE for x, size in zip(point, photo.size)]
    answer = model(
        pixel_values=pixels, input_points=torch.tensor([[[at]]]), input_labels=torch.tensor([[[1]]]),
        multimask_output=True,
    )
    return {
        "embedding": model.get_image_embeddings(pixels)[-1].numpy(),
        "logits": answer.pred_masks[0, 0].clamp(-32, 32).numpy(),
        "iou": answer.iou_scores[0, 0].numpy(),
    }


def ours(args: argparse.Namespace, point: list[int]) -> dict[str, np.ndarray]:
    raw = args.out / "raw.safetensors"
    command = [args.samara, "segment", PHOTO, "--checkpoint", args.out / "model.safetensors", "--precision", "fp32"]
    subprocess.run([*command, "--point", f"{point[0]},{point[1]}", "--raw", raw], check=True)
    found = load_file(raw)
    names = {"embedding": "image_embedding", "logits": "low_res_logits", "iou": "iou"}
    return {ours: found[theirs] for ours, theirs in names.items()}


if __name__ == "__main__":
    main()
