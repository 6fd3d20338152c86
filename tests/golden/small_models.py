"""The small models: four families at toy sizes, with everything computed on the way.

Called by `model_references.py small`. Needs the packages of requirements.txt.
"""

import json
import shutil
import tempfile
import warnings
from functools import partial
from pathlib import Path

warnings.filterwarnings("ignore")  # deprecation notices of timm

import mobile_sam.modeling as mobile
import numpy as np
import sam2.utils.misc
import segment_anything.modeling as official
import torch
from mobile_sam.modeling.tiny_vit_sam import LayerNorm2d as TinyLayerNorm2d
from mobile_sam.modeling.tiny_vit_sam import TinyViT
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder as Sam2MaskDecoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.sam2_video_predictor import SAM2VideoPredictor
from transformers import SamConfig, SamModel

import video_references
from common import Tensors, blob, points_with_labels, save
from randomise import randomise

SEED = 20

PIXEL_MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
PIXEL_STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)

SIDE = 128
GRID = SIDE // 16
DIM = 32  # of the image embedding, the prompts and the decoder
VIT = dict(embed_dim=16, depth=4, num_heads=2, window_size=3, global_attn_indexes=(1, 3))
TINY_VIT = dict(embed_dims=[8, 8, 16, 16], depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4],
                window_sizes=[7, 7, 14, 7], num_classes=10)
DECODER = dict(num_heads=8, mlp_dim=64, iou_head_hidden_dim=32)


def small(out: Path) -> None:
    """Write the three small models, their inputs and what the reference makes of them."""
    out.mkdir(parents=True, exist_ok=True)
    pixels = small_pixels()
    save(out / "pixels.safetensors", {"pixels": pixels.half()})
    small_sam(out, pixels)
    small_mobile_sam(out, pixels)
    small_hf(out, pixels)
    small_sam2(out, pixels)
    small_sam2_video(out)


def small_pixels() -> torch.Tensor:
    """An image of 128x96 as the encoder gets it: normalised, then padded with zeros below.

    The values are rounded to half precision, so that the file is small and exact.
    """
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    noise = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(SEED))
    waves = [torch.sin(x / 7) * torch.cos(y / 11), torch.sin((x + y) / 13), torch.cos(x * y / 900)]
    disc = ((x - 80) ** 2 + (y - 40) ** 2 < 24**2).float()
    image = 128 + 60 * torch.stack(waves) - 90 * disc + 40 * noise
    pixels = (image.clamp(0, 255).round() - PIXEL_MEAN) / PIXEL_STD
    return nn.functional.pad(pixels, (0, 0, 0, 32))[None].half().float()


def small_cases() -> dict[str, Tensors]:
    """The prompts, in model pixels and before the half-pixel shift of the prompt encoder."""
    point = points_with_labels([[70, 50, 1]])
    points = points_with_labels([[70, 50, 1], [30.25, 81.5, 1], [101, 12, 0]])
    box = {"boxes": torch.tensor([[22.0, 17.5, 96.0, 77.0]])}
    mask = {"mask_input": blob(32)}
    grid = [[[16 + 32 * i, 12 + 24 * j]] for j in range(4) for i in range(4)]
    batch = {"points": torch.tensor(grid).float(), "labels": torch.ones(16, 1)}
    return {
        "point": point,
        "points": points,
        "box": box,
        "box_points": box | points,
        "mask": mask,
        "point_mask": point | mask,
        "batch": batch,
    }


def facts(encoder: dict) -> dict:
    """What a reader must know to build the model, as the metadata `config` of an expected file."""
    encoder = dict(image_size=SIDE, patch_size=16, out_chans=DIM) | encoder
    return {"encoder": encoder, "decoder": dict(dim=DIM, depth=2, mask_in_chans=16) | DECODER}


def small_sam(out: Path, pixels: torch.Tensor) -> None:
    encoder = official.ImageEncoderViT(
        img_size=SIDE, out_chans=DIM, use_rel_pos=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), **VIT,
    )
    sam = official.Sam(encoder, small_prompt_encoder(official), small_decoder(official))
    randomise(sam, SEED)

    weights = sam.state_dict()
    torch.save(weights, out / "sam_vit.pth")
    save_other_formats(out, weights)
    layers = {"patch_embed": encoder.patch_embed}
    layers |= {f"block.{i}": block for i, block in enumerate(encoder.blocks)}
    expected = expect(sam, lambda: encoder(pixels), layers)
    save(out / "sam_vit.expected.safetensors", expected, facts(VIT))


def save_other_formats(out: Path, weights: Tensors) -> None:
    """The prompt encoder alone, to keep them small: for the readers of the formats."""
    part = {name: value for name, value in weights.items() if name.startswith("prompt_encoder.")}
    torch.save({name: value.half() for name, value in part.items()}, out / "sam_vit_f16.pth")
    torch.save({name: value.bfloat16() for name, value in part.items()}, out / "sam_vit_bf16.pth")
    save_legacy(out / "sam_vit.legacy.pth", part)


def save_legacy(path: Path, tensors: Tensors) -> None:
    """The format before PyTorch 1.6. It contains memory addresses: keep a file that agrees."""
    if path.exists():
        old = torch.load(path)
        if old.keys() == tensors.keys() and all(old[name].equal(tensors[name]) for name in old):
            return
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def small_mobile_sam(out: Path, pixels: torch.Tensor) -> None:
    encoder = small_tiny_vit()
    sam = mobile.Sam(encoder, small_prompt_encoder(mobile), small_decoder(mobile))
    randomise(sam, SEED + 1)
    round_to_half(sam)

    torch.save(sam.half().state_dict(), out / "mobile_sam.pth")
    sam.float()
    layers = {"patch_embed": encoder.patch_embed}
    layers |= {f"layer.{i}": layer for i, layer in enumerate(encoder.layers)}
    expected = expect(sam, lambda: tiny_vit_forward(encoder, pixels), layers)
    save(out / "mobile_sam.expected.safetensors", expected, facts(TINY_VIT))


def small_tiny_vit() -> TinyViT:
    """A TinyViT of another size. The package hard-codes three things for MobileSAM's dimensions:

    - the last down-sampling has stride 1, recognised by its width 320 (448, 576): set here;
    - the neck has 256 channels: rebuilt here;
    - the output grid is 64x64: see tiny_vit_forward.
    """
    encoder = TinyViT(img_size=SIDE, drop_path_rate=0.0, **TINY_VIT)
    encoder.layers[2].downsample.conv2.c.stride = (1, 1)
    encoder.neck = nn.Sequential(
        nn.Conv2d(TINY_VIT["embed_dims"][-1], DIM, kernel_size=1, bias=False),
        TinyLayerNorm2d(DIM),
        nn.Conv2d(DIM, DIM, kernel_size=3, padding=1, bias=False),
        TinyLayerNorm2d(DIM),
    )
    return encoder


def tiny_vit_forward(encoder: TinyViT, pixels: torch.Tensor) -> torch.Tensor:
    tokens = encoder.patch_embed(pixels)
    for layer in encoder.layers:
        tokens = layer(tokens)
    return encoder.neck(tokens.transpose(1, 2).reshape(1, -1, GRID, GRID))


def small_prompt_encoder(package) -> nn.Module:
    return package.PromptEncoder(
        embed_dim=DIM, image_embedding_size=(GRID, GRID), input_image_size=(SIDE, SIDE),
        mask_in_chans=16,
    )


def small_decoder(package) -> nn.Module:
    transformer = package.TwoWayTransformer(
        depth=2, embedding_dim=DIM, num_heads=DECODER["num_heads"], mlp_dim=DECODER["mlp_dim"]
    )
    return package.MaskDecoder(
        transformer_dim=DIM, transformer=transformer,
        iou_head_hidden_dim=DECODER["iou_head_hidden_dim"],
    )


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Make a file in half precision exact."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    model.train().eval()


@torch.no_grad()
def expect(sam: nn.Module, encode, layers: dict[str, nn.Module]) -> Tensors:
    """Everything the official graph computes on the way from the pixels to the masks."""
    found, hooks = {}, []
    for name, layer in layers.items():
        keep = lambda _module, _inputs, output, name=name: found.update({name: output.clone()})
        hooks.append(layer.register_forward_hook(keep))
    embedding = found["image_embedding"] = encode()
    for hook in hooks:
        hook.remove()
    found["image_pe"] = sam.prompt_encoder.get_dense_pe()
    for name, prompt in small_cases().items():
        add_case(found, name, prompt, predict_all(sam, embedding, prompt))
    return found


def predict_all(sam: nn.Module, embedding: torch.Tensor, prompt: Tensors) -> Tensors:
    """All four mask tokens of one prompt, or of a batch of prompts."""
    points = (prompt["points"], prompt["labels"]) if "points" in prompt else None
    sparse, dense = sam.prompt_encoder(points, prompt.get("boxes"), prompt.get("mask_input"))
    pe = sam.prompt_encoder.get_dense_pe()
    logits, iou = sam.mask_decoder.predict_masks(embedding, pe, sparse, dense)
    return {"sparse": sparse, "dense": dense, "low_res_logits": logits, "iou": iou}


def add_case(found: Tensors, name: str, prompt: Tensors, outputs: Tensors) -> None:
    """File one case, leaving out what is empty, constant or too large."""
    outputs = dict(outputs)
    if outputs["sparse"] is None or outputs["sparse"].numel() == 0:
        del outputs["sparse"]
    if name != "mask":
        del outputs["dense"]
    if name == "batch":  # every fifth pixel meets all positions of the up-scaling
        outputs["low_res_logits_every5"] = outputs.pop("low_res_logits")[..., ::5, ::5]
    found |= {f"case.{name}.{key}": value for key, value in (prompt | outputs).items()}


def small_hf(out: Path, pixels: torch.Tensor) -> None:
    model = SamModel(small_hf_config())
    randomise(model, SEED + 2)
    round_to_half(model)

    folder = out / "sam_hf.tmp"
    model.half().save_pretrained(folder)
    shutil.copyfile(folder / "model.safetensors", out / "sam_hf.safetensors")
    shutil.copyfile(folder / "config.json", out / "sam_hf.config.json")
    shutil.rmtree(folder)
    save(out / "sam_hf.expected.safetensors", expect_hf(model.float(), pixels), facts(VIT))


def small_hf_config() -> SamConfig:
    vision = dict(
        hidden_size=VIT["embed_dim"], num_hidden_layers=VIT["depth"],
        num_attention_heads=VIT["num_heads"], window_size=VIT["window_size"],
        global_attn_indexes=list(VIT["global_attn_indexes"]),
        image_size=SIDE, output_channels=DIM, num_pos_feats=DIM // 2,
    )
    prompt = dict(hidden_size=DIM, image_size=SIDE)
    decoder = dict(
        hidden_size=DIM, num_attention_heads=DECODER["num_heads"], mlp_dim=DECODER["mlp_dim"],
        iou_head_hidden_dim=DECODER["iou_head_hidden_dim"],
        layer_norm_eps=1e-5,  # as in the official decoder; transformers defaults to 1e-6
    )
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


@torch.no_grad()
def expect_hf(model: SamModel, pixels: torch.Tensor) -> Tensors:
    embedding = model.get_image_embeddings(pixels)
    if not torch.is_tensor(embedding):
        embedding = embedding.last_hidden_state
    found = {"image_embedding": embedding, "image_pe": model.get_image_wide_positional_embeddings()}
    for name, prompt in small_cases().items():
        add_case(found, name, prompt, predict_all_hf(model, embedding, prompt))
    return found


def predict_all_hf(model: SamModel, embedding: torch.Tensor, prompt: Tensors) -> Tensors:
    """transformers has one more axis (image, prompt, ...) and no call for all four tokens."""
    axis = lambda key: prompt[key][None] if key in prompt else None
    sparse, dense = model.prompt_encoder(
        axis("points"), axis("labels"), axis("boxes"), prompt.get("mask_input")
    )
    pe = model.get_image_wide_positional_embeddings()
    single, multi = (model.mask_decoder(embedding, pe, sparse, dense, multi) for multi in (False, True))
    logits, iou = (torch.cat(pair, dim=2)[0] for pair in zip(single, multi))
    sparse = sparse[0] if sparse is not None else None
    return {"sparse": sparse, "dense": dense, "low_res_logits": logits, "iou": iou}


def small_sam2(out: Path, pixels: torch.Tensor) -> None:
    """The image encoder of SAM 2: windows of 6 on a grid of 8 are padded, also where queries are pooled."""
    trunk = Hiera(embed_dim=8, num_heads=1, stages=(1, 2, 3, 2), global_att_blocks=(4,),
                  window_pos_embed_bkg_spatial_size=(7, 7), window_spec=(8, 4, 6, 3))
    neck = FpnNeck(nn.Identity(), DIM, trunk.channel_list, fpn_interp_model="nearest",
                   fpn_top_down_levels=[2, 3])
    encoder = nn.ModuleDict({"trunk": trunk, "neck": neck})
    randomise(encoder, SEED)
    encoder.half().float()
    state = {name: tensor.half() for name, tensor in encoder.state_dict().items()}
    save(out / "sam2_encoder.safetensors", state)
    with torch.no_grad():
        stages = trunk(pixels)
        levels, _ = neck(stages)
    found = {f"stage.{i}": stage for i, stage in enumerate(stages)}
    found |= {f"level.{i}": level for i, level in enumerate(levels[:-1])}
    save(out / "sam2_encoder.expected.safetensors", found)
    small_sam2_decoder(out)


def small_sam2_decoder(out: Path) -> None:
    """SAM 2's mask decoder on a random embedding, with three prompts of two tokens each."""
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=8, mlp_dim=64)
    decoder = Sam2MaskDecoder(
        transformer_dim=DIM, transformer=transformer, iou_head_hidden_dim=DIM,
        use_high_res_features=True, iou_prediction_use_sigmoid=True, pred_obj_scores=True,
        pred_obj_scores_mlp=True, use_multimask_token_for_obj_ptr=True,
    )
    randomise(decoder, SEED)
    decoder.half().float()
    state = {name: tensor.half() for name, tensor in decoder.state_dict().items()}
    save(out / "sam2_decoder.safetensors", state)
    rng = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(shape, generator=rng).half().float()
    found = {
        "image_embedding": draw(1, DIM, GRID, GRID), "image_pe": draw(1, DIM, GRID, GRID),
        "stride8": draw(1, DIM, 2 * GRID, 2 * GRID), "stride4": draw(1, DIM, 4 * GRID, 4 * GRID),
        "sparse": draw(3, 2, DIM), "dense": draw(1, DIM, GRID, GRID),
    }
    with torch.no_grad():
        high_res = [decoder.conv_s0(found["stride4"]), decoder.conv_s1(found["stride8"])]
        masks, iou, tokens, score = decoder.predict_masks(
            found["image_embedding"], found["image_pe"], found["sparse"],
            found["dense"].repeat(3, 1, 1, 1), repeat_image=True, high_res_features=high_res,
        )
    found |= {"low_res_logits": masks, "iou": iou, "mask_tokens": tokens, "object_score": score}
    save(out / "sam2_decoder.expected.safetensors", found)
    small_sam2_memory(out)


def memory_attention(side: int, width: int) -> MemoryAttention:
    rope = dict(rope_theta=10000.0, feat_sizes=(side, side), embedding_dim=DIM, num_heads=1,
                downsample_rate=1, dropout=0.0)
    layer = MemoryAttentionLayer(
        activation="relu", cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=width, **rope),
        d_model=DIM, dim_feedforward=48, dropout=0.0, pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True, pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**rope),
    )
    return MemoryAttention(DIM, True, layer, num_layers=2)


def memory_encoder(width: int) -> MemoryEncoder:
    return MemoryEncoder(
        out_dim=width, in_dim=DIM, position_encoding=PositionEmbeddingSine(width),
        mask_downsampler=MaskDownSampler(DIM, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(CXBlock(DIM), num_layers=2),
    )


def small_sam2_memory(out: Path) -> None:
    """SAM 2's memory: the encoder on a grid of 4x4, and the attention to two grids and 3 pointers."""
    side, width = 4, 16
    memory = nn.ModuleDict({
        "attention": memory_attention(side, width),
        "encoder": memory_encoder(width),
    })
    randomise(memory, SEED)
    memory.half().float()
    state = {name: tensor.half() for name, tensor in memory.state_dict().items()}
    save(out / "sam2_memory.safetensors", state)
    rng = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(shape, generator=rng).half().float()
    tokens = 2 * side**2 + 3
    found = {
        "image_embedding": draw(1, DIM, side, side), "mask": draw(1, 1, 16 * side, 16 * side),
        "frame": draw(side**2, 1, DIM), "frame_pos": draw(side**2, 1, DIM),
        "tokens": draw(tokens, 1, width), "tokens_pos": draw(tokens, 1, width),
    }
    with torch.no_grad():
        encoded = memory["encoder"](found["image_embedding"], found["mask"], skip_mask_sigmoid=True)
        found |= {"memory": encoded["vision_features"], "memory_pos": encoded["vision_pos_enc"][0]}
        found["conditioned"] = memory["attention"](
            found["frame"], found["tokens"], found["frame_pos"], found["tokens_pos"], 3
        )
    save(out / "sam2_memory.expected.safetensors", found)


def small_sam2_video(out: Path) -> None:
    """A whole SAM 2.1 on eight frames of 64x48, through the scenario of video_references.py."""
    width, frames = 16, 8
    trunk = Hiera(embed_dim=8, num_heads=1, stages=(1, 2, 3, 2), global_att_blocks=(4,),
                  window_pos_embed_bkg_spatial_size=(7, 7), window_spec=(8, 4, 6, 3))
    neck = FpnNeck(PositionEmbeddingSine(DIM), DIM, trunk.channel_list, fpn_interp_model="nearest",
                   fpn_top_down_levels=[2, 3])
    stability = dict(dynamic_multimask_via_stability=True, dynamic_multimask_stability_delta=0.05,
                     dynamic_multimask_stability_thresh=0.98)
    on = [
        "use_mask_input_as_output_without_sam", "directly_add_no_mem_embed", "no_obj_embed_spatial",
        "use_high_res_features_in_sam", "multimask_output_in_sam", "iou_prediction_use_sigmoid",
        "use_obj_ptrs_in_encoder", "add_tpos_enc_to_obj_ptrs", "proj_tpos_enc_in_obj_ptrs",
        "use_signed_tpos_enc_to_obj_ptrs", "only_obj_ptrs_in_the_past_for_eval", "pred_obj_scores",
        "pred_obj_scores_mlp", "fixed_no_obj_ptr", "multimask_output_for_tracking",
        "use_multimask_token_for_obj_ptr", "use_mlp_for_obj_ptr_proj",
        "binarize_mask_from_pts_for_mem_enc", "add_all_frames_to_correct_as_cond",
    ]
    predictor = SAM2VideoPredictor(
        image_encoder=ImageEncoder(trunk, neck, scalp=1),
        memory_attention=memory_attention(GRID, width),
        memory_encoder=memory_encoder(width),
        image_size=SIDE, sigmoid_scale_for_mem_enc=20.0, sigmoid_bias_for_mem_enc=-10.0,
        multimask_min_pt_num=0, fill_hole_area=8, sam_mask_decoder_extra_args=stability,
        **dict.fromkeys(on, True),
    ).eval()
    randomise(predictor, SEED)
    decoder = predictor.sam_mask_decoder
    with torch.no_grad():  # in some frames an object is there, in others it is not
        decoder.pred_obj_score_head.layers[-1].bias -= 1.48
    round_to_half(predictor)
    state = {name: tensor.half() for name, tensor in predictor.state_dict().items()}
    transformer = dict(depth=2, embedding_dim=DIM, num_heads=8, mlp_dim=2048,
                       attention_downsample_rate=2)
    config = {
        "trunk": dict(embed_dim=8, num_heads=1, stages=[1, 2, 3, 2], global_att_blocks=[4],
                      pos_embed_bkg=7, window_spec=[8, 4, 6, 3]),
        "prompt_encoder": dict(embed_dim=DIM, grid=GRID, img_size=SIDE, mask_in_chans=16),
        "mask_decoder": dict(transformer=transformer, num_mask_tokens=decoder.num_mask_tokens,
                             iou_head_depth=3, iou_head_hidden_dim=256),
        "memory_attention": dict(d_model=DIM, kv_in_dim=width, dim_feedforward=48, num_layers=2),
        "memory_encoder": dict(in_dim=DIM, out_dim=width, num_layers=2),
        "num_maskmem": 7, "no_obj_embed_spatial": True, "proj_tpos_enc_in_obj_ptrs": True,
    }
    save_file(state, out / "sam2_video.safetensors", {"samara.config": json.dumps(config)})
    (out / "sam2_video.safetensors").chmod(0o644)

    noise = torch.randint(0, 256, (frames, 6, 8, 3), generator=torch.Generator().manual_seed(SEED))
    images = [Image.fromarray(frame.to(torch.uint8).numpy()).resize((64, 48)) for frame in noise]
    sam2.utils.misc.get_connected_components = video_references.connected_components
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for i, image in enumerate(images):
            image.save(Path(folder) / f"{i:05}.jpg", format="PNG")
        found = video_references.run(predictor, Path(folder))
    found["frames"] = torch.stack([torch.from_numpy(np.array(p)) for p in images])
    save(out / "sam2_video.expected.safetensors", found)
