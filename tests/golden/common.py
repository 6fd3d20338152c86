"""What the small and the full references share. Needs: torch, safetensors."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]


def points_with_labels(rows: list[list[float]]) -> Tensors:
    rows = torch.tensor(rows).float()[None]
    return {"points": rows[..., :2].contiguous(), "labels": rows[..., 2].contiguous()}


def blob(side: int) -> torch.Tensor:
    """Mask logits [1, 1, side, side]: positive inside a wavy disc, clipped at -6 and 6."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * 2, indexing="ij")
    radius = ((x - 0.45) ** 2 + (y - 0.4) ** 2).sqrt()
    wave = 0.05 * torch.sin(20 * x) * torch.cos(15 * y)
    return (40 * (0.25 + wave - radius)).clamp(-6, 6)[None, None]


def save(path: Path, tensors: Tensors, facts: dict | None = None) -> None:
    """Write a safetensors file, with the facts as JSON under the metadata key `config`."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, path, {"config": json.dumps(facts)} if facts else None)
    path.chmod(0o644)
