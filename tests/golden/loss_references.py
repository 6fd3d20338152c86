"""Values and gradients of the training losses, in PyTorch and float64, stored as float32.

    python loss_references.py [OUT]      Default OUT: crates/samara-train/tests/golden.

Needs: torch, torchvision, safetensors.

The formulas are those of SAM 2's `training/loss_fns.py`, written out here; the focal loss is
checked against torchvision's. Each gradient is of `sum(loss * cotangent)` with the stored
`case.C.cotangent` [n, k], so that an error in one candidate cannot hide in a sum.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from common import Tensors, save

GOLDEN = Path(__file__).resolve().parents[2] / "crates/samara-train/tests/golden"
SIDES = (10, 8)  # not square: height and width cannot be exchanged unseen
FOCAL, DICE = 20.0, 1.0


def focal_loss(logits, targets, alpha=0.25, gamma=2.0):
    t = targets.expand_as(logits)
    p = logits.sigmoid()
    p_t = p * t + (1 - p) * (1 - t)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    alpha_t = alpha * t + (1 - alpha) * (1 - t)
    loss = alpha_t * (1 - p_t) ** gamma * cross_entropy
    theirs = torchvision_focal_loss(logits, t, alpha, gamma)
    torch.testing.assert_close(loss, theirs, rtol=1e-12, atol=1e-15)
    return loss.flatten(2).mean(-1)


def dice_loss(logits, targets):
    p, t = logits.sigmoid().flatten(2), targets.flatten(2)
    return 1 - (2 * (p * t).sum(-1) + 1) / (p.sum(-1) + t.sum(-1) + 1)


def checkerboard_loss(logits):
    p = logits.sigmoid()
    loss = 0
    for dim in (2, 3):
        for stride in (1, 2):
            along = p.transpose(dim, 3)
            before, here, after = along[..., : -2 * stride], along[..., stride:-stride], along[..., 2 * stride :]
            loss = loss + (-(here - before) * (after - here)).clamp(min=0).flatten(2).mean(-1)
    return loss


def mask_loss(logits, targets):
    return FOCAL * focal_loss(logits, targets) + DICE * dice_loss(logits, targets)


def iou_targets(logits, targets):
    p, t = logits.flatten(2) > 0, targets.flatten(2) > 0.5
    union = (p | t).sum(-1)
    return torch.where(union == 0, 1.0, (p & t).sum(-1) / union.clamp(min=1))


def promptable_loss(logits, iou, score, targets, sam2):
    """SAM: squared IoU error of the best mask. SAM 2: absolute, of all masks, with object score."""
    losses = mask_loss(logits, targets)
    best = losses.detach().argmin(1, keepdim=True)
    difference = iou - iou_targets(logits, targets)
    if not sam2:
        return (losses.gather(1, best) + difference.square().gather(1, best)).mean()
    present = (targets > 0).flatten(1).any(1, keepdim=True).double()
    per_object = losses.gather(1, best) + difference.abs().mean(1, keepdim=True)
    object_score = F.binary_cross_entropy_with_logits(score, present)
    return (per_object * present).mean() + object_score


def blobs(n: int) -> torch.Tensor:
    """Masks [n, 1, h, w]: discs of different places and sizes."""
    h, w = SIDES
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    discs = [(x - 3 - i) ** 2 + (y - 4 - i) ** 2 < (2 + i) ** 2 for i in range(n)]
    return torch.stack(discs)[:, None].double()


def cases():
    generator = torch.Generator().manual_seed(20240811)

    def normal(*shape, scale=3.0):
        # Rounded to float32, so that both sides start from the same numbers.
        return (torch.randn(shape, generator=generator) * scale).double()

    blob, empty, full = blobs(3), torch.zeros(2, 1, *SIDES), torch.ones(2, 1, *SIDES)
    yield "random", normal(3, 3, *SIDES), blob
    yield "single", normal(3, 1, *SIDES), blob
    yield "four", normal(2, 4, *SIDES), blob[:2]
    yield "empty", normal(2, 3, *SIDES) - 4, empty.double()
    yield "full", normal(2, 3, *SIDES), full.double()
    # Right everywhere, wrong everywhere, and right but for one row.
    right = 100 * blob - 50
    row = right.clone()
    row[:, :, 5] *= -1
    yield "saturated", torch.cat([row, -right, right], 1), blob
    one_empty = torch.cat([blob[:2], torch.zeros(1, 1, *SIDES)])
    yield "absent", normal(3, 3, *SIDES), one_empty
    nothing = torch.cat([-normal(1, 1, *SIDES).abs() - 0.1, normal(1, 1, *SIDES)], 1)
    yield "nothing", nothing, torch.zeros(1, 1, *SIDES).double()
    soft = torch.rand(2, 1, *SIDES, generator=generator).double()
    yield "soft", normal(2, 3, *SIDES), soft


def references() -> Tensors:
    generator = torch.Generator().manual_seed(7)
    out: Tensors = {}
    for name, logits, targets in cases():
        n, k = logits.shape[:2]

        def record(key, value, **inputs):
            gradients = torch.autograd.grad(value.sum(), list(inputs.values()))
            for of, gradient in zip(inputs, gradients):
                out[f"case.{name}.{key}.d_{of}"] = gradient

        logits.requires_grad_()
        cotangent = torch.randn(n, k, generator=generator).double()
        iou = torch.rand(n, k, generator=generator).double().requires_grad_()
        score = (torch.randn(n, 1, generator=generator) * 3).double()
        if name == "saturated":
            score = torch.tensor([[50.0], [-50.0], [0.5]]).double()
        score.requires_grad_()
        inputs = {"logits": logits, "targets": targets, "iou": iou, "score": score}
        out |= {f"case.{name}.{key}": value for key, value in (inputs | {"cotangent": cotangent}).items()}

        per_candidate = {
            "focal": focal_loss(logits, targets),
            "focal_1.5": focal_loss(logits, targets, 0.6, 1.5),
            "dice": dice_loss(logits, targets),
            "checkerboard": checkerboard_loss(logits),
            "mask": mask_loss(logits, targets),
        }
        for key, value in per_candidate.items():
            out[f"case.{name}.{key}"] = value
            record(key, value * cotangent, logits=logits)
        out[f"case.{name}.iou_targets"] = iou_targets(logits, targets)
        losses = per_candidate["mask"]
        ordered = losses.detach().sort(1).values
        assert k == 1 or (ordered[:, 1] - ordered[:, 0]).min() > 1e-3, f"{name}: a tie"
        out[f"case.{name}.best"] = losses.argmin(1)
        for sam2 in (False, True):
            key = "sam2" if sam2 else "sam"
            value = promptable_loss(logits, iou, score, targets, sam2)
            out[f"case.{name}.{key}"] = value[None]
            inputs = {"logits": logits, "iou": iou} | ({"score": score} if sam2 else {})
            record(key, value, **inputs)
    return {name: tensor.detach().float() for name, tensor in out.items()}


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    out.mkdir(parents=True, exist_ok=True)
    save(out / "losses.safetensors", references())


if __name__ == "__main__":
    main()
