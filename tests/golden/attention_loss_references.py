"""Values and gradients of the hierarchical attention loss, in PyTorch and float64, as float32.

    python attention_loss_references.py [OUT]      Default OUT: crates/samara-train/tests/golden.

Needs: torch, torchvision, safetensors.

Masks `case.C.masks` [n, 3, H, W] and `case.C.scores` [n, 3] go with the attention maps
`case.C.map.S` [n, 1, h, w]. For every setting K, `case.C.K.total` is the loss, `case.C.K.focal` and
`.dice` [scales] its parts, and `case.C.K.d_map.S` the gradients. Area averaging is checked against
`F.interpolate(mode="area")`, and losses of probabilities against those of logits.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from common import Tensors, save
from loss_references import DICE, FOCAL, GOLDEN, dice_loss, focal_loss

FLOOR = 1e-4
SIDES = (27, 22)  # neither side is a multiple of any scale
SCALES = [(-(-SIDES[0] // s), -(-SIDES[1] // s)) for s in (16, 8, 4)]


def losses_of_probabilities(p, t, alpha, gamma):
    def log(p):
        return torch.log((1 - FLOOR) * p + FLOOR)

    p_t = p * t + (1 - p) * (1 - t)
    alpha_t = alpha * t + (1 - alpha) * (1 - t)
    cross_entropy = -(t * log(p) + (1 - t) * log(1 - p))
    focal = (alpha_t * (1 - p_t) ** gamma * cross_entropy).flatten(2).mean(-1)
    p, t = p.flatten(2), t.flatten(2)
    return focal, 1 - (2 * (p * t).sum(-1) + 1) / (p.sum(-1) + t.sum(-1) + 1)


def losses(x, t, kind, alpha, gamma):
    if kind == "distribution":
        x = x / x.detach().amax((2, 3), keepdim=True)
    if kind != "logits":
        return losses_of_probabilities(x, t, alpha, gamma)
    focal, dice = focal_loss(x, t, alpha, gamma), dice_loss(x, t)
    if x.abs().max() < 5:
        theirs = losses_of_probabilities(x.sigmoid(), t, alpha, gamma)
        torch.testing.assert_close(theirs, (focal, dice), rtol=0.02, atol=1e-3)
    return focal, dice


def attention_loss(maps, masks, scores, kind, levels=(0, 1, 2), min_score=0.0, normalise=False,
                   alpha=0.25, gamma=2.0):
    weights = torch.where(scores < min_score, 0.0, scores.clamp(0, 1))[:, list(levels)]
    divisor = weights.sum() if normalise else len(scores)
    parts = []
    for i, (x, level) in enumerate(zip(maps, levels)):
        target = F.adaptive_avg_pool2d(masks[:, level, None], x.shape[2:])
        area = F.interpolate(masks[:, level, None], x.shape[2:], mode="area")
        torch.testing.assert_close(target, area)
        focal, dice = losses(x, target, kind, alpha, gamma)
        w = weights[:, i, None]
        parts.append(torch.stack([(w * focal).sum(), (w * dice).sum()]) / divisor)
    focal, dice = torch.stack(parts).T
    return (FOCAL * focal + DICE * dice).sum(), focal, dice


SETTINGS = {
    "plain": {},
    "normalised": {"normalise": True, "min_score": 0.5},
    "mapped": {"levels": (2, 0, 0), "alpha": 0.6, "gamma": 1.5},
}


def nested(n):
    """Discs within discs: whole, part and subpart, [n, 3, H, W]."""
    y, x = torch.meshgrid(*map(torch.arange, SIDES), indexing="ij")
    discs = [
        [(x - 8 - 2 * i) ** 2 + (y - 12 + 2 * i) ** 2 < (r - i) ** 2 for r in (11, 7, 4)]
        for i in range(n)
    ]
    return torch.stack([torch.stack(levels) for levels in discs]).double()


def cases():
    generator = torch.Generator().manual_seed(20260611)

    def normal(h, w, n=2, scale=2.0):
        # Rounded to float32, so that both sides start from the same numbers.
        return (torch.randn(n, 1, h, w, generator=generator) * scale).double()

    def uniform(*shape):
        return torch.rand(shape, generator=generator).double()

    scores = torch.tensor([[0.95, 0.8, 0.4], [1.03, 0.45, -0.1]]).double()
    shapes = nested(2)
    yield "small", "logits", [normal(*s) for s in SCALES], shapes, scores
    yield "empty", "logits", [normal(*s) for s in SCALES], torch.zeros_like(shapes), scores
    yield "full", "logits", [normal(*s) for s in SCALES], torch.ones_like(shapes), scores
    saturated = [torch.where(normal(*s) > 0, 50.0, -50.0).double() for s in SCALES]
    yield "saturated", "logits", saturated, shapes, scores
    yield "soft", "logits", [normal(*s) for s in SCALES], uniform(2, 3, *SIDES), scores
    # Maps that are finer than the masks, or of one cell.
    odd = [normal(h, w) for h, w in [(1, 1), (30, 37), (7, 22)]]
    yield "odd", "logits", odd, shapes, scores
    yield "probabilities", "probabilities", [uniform(2, 1, *s) for s in SCALES], shapes, scores
    certain = [(normal(*s) > 0).double() for s in SCALES]
    yield "certain", "probabilities", certain, shapes, scores
    softmax = [normal(*s).flatten(2).softmax(-1).reshape(2, 1, *s) for s in SCALES]
    yield "softmax", "distribution", [x.float().double() for x in softmax], shapes, scores


def references() -> Tensors:
    out: Tensors = {}
    for name, kind, maps, masks, scores in cases():
        maps = [x.requires_grad_() for x in maps]
        out |= {f"case.{name}.masks": masks, f"case.{name}.scores": scores}
        out |= {f"case.{name}.map.{i}": x for i, x in enumerate(maps)}
        for key, setting in SETTINGS.items():
            total, focal, dice = attention_loss(maps, masks, scores, kind, **setting)
            gradients = torch.autograd.grad(total, maps)
            out |= {f"case.{name}.{key}.d_map.{i}": g for i, g in enumerate(gradients)}
            parts = {"total": total[None], "focal": focal, "dice": dice}
            out |= {f"case.{name}.{key}.{part}": value for part, value in parts.items()}
    return {name: tensor.detach().float() for name, tensor in out.items()}


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN
    out.mkdir(parents=True, exist_ok=True)
    save(out / "attention_losses.safetensors", references())


if __name__ == "__main__":
    main()
