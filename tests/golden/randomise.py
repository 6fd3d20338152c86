"""Random but well-behaved parameters for the golden references.

`randomise(model, seed)` overwrites every parameter and saved buffer of a model, also those that the
official code starts at zero or one, so that a reference run notices when any of them is ignored.
The scales keep activations around 1 and attention away from saturation. Each tensor is drawn from
its own generator, seeded by its name, so adding or reordering tensors changes no other.

Needs: torch.
"""

import math
import zlib

import torch
from torch import nn

POSITION_TABLES = ("positional_encoding_gaussian_matrix", "positional_embedding")
ATTENTION = ("qkv", "q_proj", "k_proj", "v_proj")


def randomise(model: nn.Module, seed: int) -> None:
    """Overwrite every parameter and every saved buffer of `model`, then switch it to evaluation."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            module = model.get_submodule(name.rpartition(".")[0])
            tensor.copy_(draw(module, name, tensor, generator(name, seed)))
    # TinyViT caches its attention biases when it is switched to evaluation: always do so last.
    model.train().eval()


def generator(name: str, seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))


def draw(module: nn.Module, name: str, old: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """New values for one tensor, chosen by what kind of tensor it is."""
    if not old.is_floating_point():  # the batch counter of a batch norm
        return torch.tensor(7)
    normal = torch.randn(old.shape, generator=rng)
    parent, leaf = f".{name}".split(".")[-2:]
    if leaf == "running_var":
        return 0.5 + torch.rand(old.shape, generator=rng)
    if leaf in POSITION_TABLES:
        return normal
    if leaf in ("rel_pos_h", "rel_pos_w"):
        return 0.7 / math.sqrt(old.shape[-1]) * normal
    if leaf in ("bias", "running_mean"):
        return 0.2 * normal
    if leaf == "weight" and is_norm(module):
        return 1 + 0.2 * normal
    if leaf == "weight" and not isinstance(module, nn.Embedding):
        plain = parent in ATTENTION or getattr(module, "groups", 1) > 1
        return (1 if plain else math.sqrt(2)) / math.sqrt(fan_in(module)) * normal
    return 0.5 * normal  # tokens, prompt embeddings, absolute positions, attention biases


def is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__


def fan_in(module: nn.Module) -> int:
    """How many inputs are summed into one output."""
    if isinstance(module, nn.ConvTranspose2d):  # kernel 2, stride 2: the taps never overlap
        return module.in_channels
    return module.weight[0].numel()
