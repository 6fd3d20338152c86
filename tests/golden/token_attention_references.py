"""How the tokens of SAM's mask decoder look at the image, by the official two-way transformer.

    python token_attention_references.py

Needs: torch, segment-anything, safetensors. Reads `sam_vit.pth` and `sam_vit.expected.safetensors` of
crates/samara-model/tests/golden, and writes `sam_vit.attention.safetensors` beside them:
`case.C.attention` [3, batch, heads, tokens, 8, 8], the softmax weights of both layers' token-to-image
attention and of the final one. The weights are taken inside of the official `Attention.forward`, and
times the values they must give what it returns.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.transformer import Attention

from common import Tensors, save

GOLDEN = Path(__file__).resolve().parents[2] / "crates/samara-model/tests/golden"
DIM, GRID, SIDE = 32, 8, 128
CASES = ("point", "points", "box_points", "mask")


def load(weights: Tensors) -> tuple[PromptEncoder, MaskDecoder]:
    prompts = PromptEncoder(DIM, (GRID, GRID), (SIDE, SIDE), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, mlp_dim=64, num_heads=8)
    decoder = MaskDecoder(
        transformer_dim=DIM, transformer=transformer, num_multimask_outputs=3, iou_head_hidden_dim=32
    )
    for module, prefix in ((prompts, "prompt_encoder."), (decoder, "mask_decoder.")):
        own = {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}
        module.load_state_dict(own)
    return prompts, decoder


def watch(attention: Attention, seen: list[torch.Tensor]) -> None:
    def hook(module, inputs, output):
        q, k, v = inputs
        project = lambda x, layer: module._separate_heads(layer(x), module.num_heads)
        q, k, v = project(q, module.q_proj), project(k, module.k_proj), project(v, module.v_proj)
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
        again = module.out_proj(module._recombine_heads(weights @ v))
        torch.testing.assert_close(again, output)
        seen.append(weights.unflatten(3, (GRID, GRID)))

    attention.register_forward_hook(
        lambda module, args, kwargs, output: hook(
            module, [*args, *(kwargs[name] for name in "qkv"[len(args):])], output
        ),
        with_kwargs=True,
    )


@torch.no_grad()
def main() -> None:
    prompts, decoder = load(torch.load(GOLDEN / "sam_vit.pth", weights_only=True))
    expected = load_file(GOLDEN / "sam_vit.expected.safetensors")
    seen: list[torch.Tensor] = []
    for layer in decoder.transformer.layers:
        watch(layer.cross_attn_token_to_image, seen)
    watch(decoder.transformer.final_attn_token_to_image, seen)

    found = {}
    for case in CASES:
        seen.clear()
        field = lambda name: expected.get(f"case.{case}.{name}")
        points = None if field("points") is None else (field("points"), field("labels"))
        sparse, dense = prompts(points, field("boxes"), field("mask_input"))
        pe = prompts.get_dense_pe()
        _, iou = decoder.predict_masks(expected["image_embedding"], pe, sparse, dense)
        torch.testing.assert_close(iou, field("iou"))
        found[f"case.{case}.attention"] = torch.stack(seen)
    save(GOLDEN / "sam_vit.attention.safetensors", found)


if __name__ == "__main__":
    main()
