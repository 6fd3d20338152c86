"""What SAM2VideoPredictor makes of a clip, with random weights.

    python video_references.py OUT FRAMES --model sam2.1_tiny [--threads 2] [--official-corrections]

FRAMES is a folder of images, of which the first 12 are used. Two objects: a box on frame 0; a mask
on frame 2 and clicks on frame 5. All frames are tracked, then the first object is corrected on frame
6, and frames 6 to 0 are tracked backwards. Writes OUT/MODEL.pth, OUT/frames and
OUT/MODEL.video.safetensors, with what every call answers: `STEP.FRAME.OBJECT.logits`, `.iou` and
`.score`. By default corrections become conditioning frames; `--official-corrections` leaves that off,
as the official code does, and writes OUT/MODEL.video-official.safetensors.

The official code fills holes with a CUDA extension only; here OpenCV stands in for it.

Needs the packages of requirements.txt.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import sam2.utils.misc
import torch
from PIL import Image

from common import save
from randomise import randomise
from sam2_models import CONFIGS, build_video

SEED = 23
FRAMES = 12


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    frames = args.out / "frames"
    if not frames.exists():
        copy_frames(args.frames, frames)
    sam2.utils.misc.get_connected_components = connected_components
    predictor = build_video(args.model)
    randomise(predictor, SEED)
    head = predictor.sam_mask_decoder.pred_obj_score_head.layers[-1]
    with torch.no_grad():
        head.bias += args.score_bias
    torch.save({"model": predictor.state_dict()}, args.out / f"{args.model}.pth")
    predictor.add_all_frames_to_correct_as_cond = not args.official_corrections
    kind = "video-official" if args.official_corrections else "video"
    with torch.inference_mode():
        found = run(predictor, frames)
    save(args.out / f"{args.model}.{kind}.safetensors", found)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--model", choices=CONFIGS, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--score-bias", type=float, default=0.0)
    parser.add_argument("--official-corrections", action="store_true")
    return parser.parse_args()


def copy_frames(source: Path, target: Path) -> None:
    """PNG files, as every decoder of JPEG gives other pixels; the official loader wants this name."""
    target.mkdir()
    for path in sorted(source.iterdir())[:FRAMES]:
        Image.open(path).save(target / f"{path.stem}.jpg", format="PNG")


def connected_components(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and areas per pixel [N, 1, H, W]; pixels that touch at a corner belong together."""
    labels, areas = [], []
    for plane in mask.numpy().astype(np.uint8)[:, 0]:
        _, label, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=8)
        labels.append(label)
        areas.append(stats[label, cv2.CC_STAT_AREA] * plane)
    stack = lambda planes: torch.from_numpy(np.stack(planes).astype(np.int32))[:, None]
    return stack(labels), stack(areas)


def prepare(predictor) -> None:
    """Put the predicted IoU of the chosen mask into the outputs, which do not hold it, and memories
    in single precision."""
    ious = []

    def recording(call):
        def recorded(*args, **kwargs):
            outputs = call(*args, **kwargs)
            ious.append(outputs[2].max())
            return outputs

        return recorded

    predictor._forward_sam_heads = recording(predictor._forward_sam_heads)
    predictor._use_mask_as_output = recording(predictor._use_mask_as_output)
    infer = predictor._run_single_frame_inference

    def inferred(*args, **kwargs):
        output, masks = infer(*args, **kwargs)
        return output | {"iou": ious[-1], "maskmem_features": single(output["maskmem_features"])}, masks

    predictor._run_single_frame_inference = inferred
    encode = predictor._run_memory_encoder

    def encoded(*args, **kwargs):
        features, position = encode(*args, **kwargs)
        return single(features), position

    predictor._run_memory_encoder = encoded


def single(features: torch.Tensor | None) -> torch.Tensor | None:
    """Memories are kept in half precision, which the attention takes only under autocast."""
    return None if features is None else features.float()


def run(predictor, frames: Path) -> dict[str, torch.Tensor]:
    width, height = Image.open(next(frames.iterdir())).size
    at = lambda x, y: [round(x * width), round(y * height)]
    state = predictor.init_state(str(frames))
    found = {}
    prepare(predictor)

    def keep(step: str, frame: int, objects: list[int]) -> None:
        for id in objects:
            index = state["obj_id_to_idx"][id]
            outputs = state["output_dict_per_obj"][index]
            pending = state["temp_output_dict_per_obj"][index]
            stores = [pending, outputs]
            kinds = ["cond_frame_outputs", "non_cond_frame_outputs"]
            all_found = [store[kind].get(frame) for store in stores for kind in kinds]
            output = next(output for output in all_found if output is not None)
            name = f"{step}.{frame}.{id}"
            found[f"{name}.logits"] = output["pred_masks"][0, 0]
            found[f"{name}.iou"] = output["iou"].reshape(1)
            found[f"{name}.score"] = output["object_score_logits"].reshape(1)

    predictor.add_new_points_or_box(state, 0, 1, box=at(0.2, 0.15) + at(0.7, 0.8))
    keep("box", 0, [1])
    y, x = np.mgrid[:height, :width]
    mask = ((x / width - 0.6) / 0.2) ** 2 + ((y / height - 0.5) / 0.3) ** 2 < 1
    predictor.add_new_mask(state, 2, 2, mask)
    keep("mask", 2, [2])
    predictor.add_new_points_or_box(
        state, 5, 2, points=[at(0.55, 0.45), at(0.3, 0.7), at(0.85, 0.1)], labels=[1, 1, 0]
    )
    keep("points", 5, [2])
    for frame, objects, _ in predictor.propagate_in_video(state):
        keep("forward", frame, objects)
    predictor.add_new_points_or_box(state, 6, 1, points=[at(0.4, 0.6), at(0.6, 0.2)], labels=[1, 0])
    keep("correction", 6, [1])
    for frame, objects, _ in predictor.propagate_in_video(state, start_frame_idx=6, reverse=True):
        keep("backward", frame, objects)
    # The boxes and clicks above, as they were asked, and the mask.
    found["mask"] = torch.from_numpy(mask.astype(np.uint8))
    return found


if __name__ == "__main__":
    main()
