"""Random weights whose masks lie around the click, for comparing segment-everything.

With every parameter random, each mask is noise over the whole image, so all boxes are the same and
one mask is left after the suppression of duplicates. Here three things are arranged, and the rest
stays random: cells and tokens are compared by their positions, the two upscaling convolutions have
no texture of their own, and the last layer of every hyper-network is fitted to discs around clicks,
of another radius for each mask token.

Called by compare_everything.py. Needs the packages of requirements.txt.
"""

import numpy as np
import torch

CLICKS = 196
PIXELS = 120  # near a click, and as many anywhere
RADII = (35.0, 18.0, 28.0, 50.0)  # of the mask tokens, in cells of the 256x256 logits
SCORE = (0.85, 0.08)  # mean and spread of the predicted IoU


@torch.no_grad()
def localise(predictor, photo: np.ndarray, seed: int = 5) -> None:
    """Changes the model of `predictor`, an evaluated SAM, in place."""
    rng = torch.Generator().manual_seed(seed)
    sam = predictor.model
    compare_positions(sam, rng)
    decoder = sam.mask_decoder
    for layer in (0, 3):
        weight = decoder.output_upscaling[layer].weight
        weight.copy_(2 * weight.mean((2, 3), keepdim=True) + 0.1 * weight)
    norm = sam.image_encoder.neck[3]
    norm.weight.mul_(0.3)
    norm.bias.mul_(0.3)

    predictor.set_image(photo)
    pixels, distances, hidden, scores = answers(predictor, photo, rng)
    for token, mlp in enumerate(decoder.output_hypernetworks_mlps):
        weight = fit(pixels, hidden[token], RADII[token] - distances)
        mlp.layers[-1].weight.copy_(weight[:, :-1])
        mlp.layers[-1].bias.copy_(weight[:, -1])
    last = decoder.iou_prediction_head.layers[-1]
    scale = SCORE[1] / scores.std(0)
    last.weight.mul_(scale[:, None])
    last.bias.copy_((last.bias - scores.mean(0)) * scale + SCORE[0])


def compare_positions(sam, rng: torch.Generator) -> None:
    """Cells attend to the click near them, and its value has a direction of its own."""
    dim = sam.mask_decoder.transformer_dim
    direction = torch.nn.functional.normalize(torch.randn(dim, generator=rng), dim=0)
    positive = sam.prompt_encoder.point_embeddings[1].weight
    positive.copy_(0.3 * positive + 24 * direction)
    for layer in sam.mask_decoder.transformer.layers:
        attention = layer.cross_attn_image_to_token
        inner = attention.internal_dim
        basis = torch.randn(dim, dim, generator=rng)
        basis[:, 0] = direction
        weight = 3 * torch.linalg.qr(basis)[0].T[1 : 1 + inner]
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(weight)
            projection.bias.zero_()
        value = 0.3 * torch.randn(inner, generator=rng)[:, None] * direction
        attention.v_proj.weight.mul_(0.1).add_(value)
        attention.out_proj.weight.mul_(4)


def answers(predictor, photo: np.ndarray, rng: torch.Generator):
    """Upscaled features of some pixels and their distance to the click [clicks, pixels, ..], inputs of
    the hyper-networks' last layers by token, and scores."""
    decoder = predictor.model.mask_decoder
    features, scores = [], []
    hidden = [[] for _ in decoder.output_hypernetworks_mlps]
    keep = lambda into: lambda _module, inputs, output: into.append(output[0])
    hooks = [decoder.output_upscaling.register_forward_hook(keep(features))]
    hooks.append(decoder.iou_prediction_head.register_forward_hook(keep(scores)))
    for into, mlp in zip(hidden, decoder.output_hypernetworks_mlps):
        keep_input = lambda _module, inputs, _output, into=into: into.append(inputs[0][0])
        hooks.append(mlp.layers[-1].register_forward_hook(keep_input))

    height, width = photo.shape[:2]
    rows, columns = (side / 4 for side in predictor.input_size)
    y, x = torch.meshgrid(*[torch.arange(256) + 0.5] * 2, indexing="ij")
    content = ((y < rows) & (x < columns)).flatten()
    pixels, distances = [], []
    for _ in range(CLICKS):
        at_x, at_y = torch.rand(2, generator=rng).tolist()
        predictor.predict(np.array([[at_x * width, at_y * height]]), np.array([1]))
        distance = ((x - at_x * columns) ** 2 + (y - at_y * rows) ** 2).sqrt().flatten()
        groups = [torch.nonzero(where).flatten() for where in (content & (distance < 60), content)]
        draw = lambda group: group[torch.randint(len(group), (PIXELS,), generator=rng)]
        chosen = torch.cat([draw(group) for group in groups])
        pixels.append(features.pop().flatten(1)[:, chosen].T)
        distances.append(distance[chosen])
    for hook in hooks:
        hook.remove()
    hidden = [torch.stack(token) for token in hidden]
    return torch.stack(pixels), torch.stack(distances), hidden, torch.stack(scores)


def fit(pixels: torch.Tensor, hidden: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Weight and bias [features, hidden + 1] that make logits out of depths (ridge regression)."""
    hidden = torch.cat([hidden, torch.ones(len(hidden), 1)], 1)
    inputs = torch.einsum("cpf,ch->cpfh", pixels, hidden).reshape(depth.numel(), -1)
    square = inputs.T @ inputs
    square.diagonal().add_(1e-3 * square.diagonal().mean())
    solved = torch.linalg.solve(square, inputs.T @ depth.clamp(-10, 10).flatten())
    return solved.reshape(pixels.shape[2], -1)
