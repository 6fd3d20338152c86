"""The full-size models: random weights and what SamPredictor answers on a photo.

Called by `model_references.py full`. Needs the packages of requirements.txt.
"""

import shutil
import warnings
from functools import partial
from pathlib import Path

warnings.filterwarnings("ignore")  # deprecation notices of timm

import mobile_sam
import sam2_models
import numpy as np
import segment_anything
import skimage
import torch
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from segment_anything.build_sam import _build_sam as build_sam

from common import Tensors, blob, points_with_labels, save
from randomise import randomise

SEED = 23  # no mask is tiny or nearly everything, for any of the models

# PNG, so that every decoder sees the same pixels.
PHOTO = Path(skimage.__file__).parent / "data/coffee.png"

# ViT-L and ViT-H keep their width but have 4 blocks, of which the second and the last are global.
BUILD = {
    "vit_b": segment_anything.sam_model_registry["vit_b"],
    "vit_l": lambda: build_sam(1024, 4, 16, [1, 3]),
    "vit_h": lambda: build_sam(1280, 4, 16, [1, 3]),
    "mobile_sam": mobile_sam.sam_model_registry["vit_t"],
} | {name: partial(sam2_models.build, name) for name in sam2_models.CONFIGS}


def full(out: Path, model: str, image: Path) -> None:
    """Write the weights of one model, the photo, and what the predictor makes of them."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(image, out / "photo.png")
    sam = BUILD[model]()
    randomise(sam, SEED)
    is_sam2 = model in sam2_models.CONFIGS
    state = sam.state_dict()
    torch.save({"model": state} if is_sam2 else state, out / f"{model}.pth")

    package = mobile_sam if model == "mobile_sam" else segment_anything
    predictor = SAM2ImagePredictor(sam) if is_sam2 else package.SamPredictor(sam)
    found = expect(predictor, np.array(Image.open(image).convert("RGB")))
    facts = {"model": model, "encoder_depth": encoder_depth(sam)}
    save(out / f"{model}.expected.safetensors", found, facts)


def encoder_depth(sam: torch.nn.Module) -> list[int]:
    encoder = getattr(sam.image_encoder, "trunk", sam.image_encoder)
    return getattr(encoder, "depths", None) or [len(encoder.blocks)]


def expect(predictor, photo: np.ndarray) -> Tensors:
    """The encoder's input and output, then every case with three masks and with one."""
    found = {}
    keep = lambda _encoder, inputs: found.update(pixels=inputs[0])
    hook = predictor.model.image_encoder.register_forward_pre_hook(keep)
    predictor.set_image(photo)
    hook.remove()
    found["image_embedding"] = predictor.get_image_embedding()

    height, width = photo.shape[:2]
    for name, prompt in full_cases(width, height).items():
        found |= {f"case.{name}.{key}": value for key, value in prompt.items()}
        for kind in ("multi", "single"):
            outputs = predict(predictor, prompt, kind == "multi")
            found |= {f"case.{name}.{kind}.{key}": value for key, value in outputs.items()}
    return found | predict_batch(predictor, width, height)


def full_cases(width: int, height: int) -> dict[str, Tensors]:
    """The prompts, in pixels of the photo."""
    at = lambda x, y, label: [round(x * width), round(y * height), label]
    point = points_with_labels([at(0.55, 0.45, 1)])
    points = points_with_labels([at(0.55, 0.45, 1), at(0.3, 0.7, 1), at(0.85, 0.1, 0)])
    points["points"][0, 1] += torch.tensor([0.25, 0.5])  # a fraction must survive
    box = {"boxes": torch.tensor([at(0.2, 0.15, 0)[:2] + at(0.8, 0.9, 0)[:2]]).float()}
    mask = {"mask_input": blob(256)}
    return {
        "point": point,
        "points": points,
        "box": box,
        "box_points": box | points,
        "mask": mask,
        "point_mask": point | mask,
    }


def predict(predictor, prompt: Tensors, multimask: bool) -> Tensors:
    """One prompt through the call that users make."""
    first = lambda key: prompt[key][0].numpy() if key in prompt else None
    masks, iou, logits = predictor.predict(
        first("points"), first("labels"), first("boxes"), first("mask_input"), multimask
    )
    outputs = {"low_res_logits": logits, "iou": iou, "masks": masks.astype(np.uint8)}
    return {key: torch.from_numpy(value)[None] for key, value in outputs.items()}


def predict_batch(predictor, width: int, height: int) -> Tensors:
    """A grid of 16 points at once, as the automatic mask generator does it."""
    at = lambda i, j: [round((i + 0.5) / 4 * width), round((j + 0.5) / 4 * height)]
    points = torch.tensor([[at(i, j)] for j in range(4) for i in range(4)]).float()
    labels = torch.ones(16, 1)
    if isinstance(predictor, SAM2ImagePredictor):
        outputs = predictor.predict(points.numpy(), labels.numpy())
        masks, iou, logits = (torch.from_numpy(output) for output in outputs)
        found = {"points": points, "labels": labels, "multi.low_res_logits": logits}
        found |= {"multi.iou": iou, "multi.masks": masks.to(torch.uint8)}
        return {f"case.batch.{key}": value for key, value in found.items()}
    moved = predictor.transform.apply_coords_torch(points, (height, width))
    masks, iou, logits = predictor.predict_torch(moved, labels)
    found = {"points": points, "labels": labels, "multi.low_res_logits": logits}
    found |= {"multi.iou": iou, "multi.masks": masks.to(torch.uint8)}
    return {f"case.batch.{key}": value for key, value in found.items()}
