"""Writes the seeds of all fuzz targets: `python3 fuzz/seeds.py`. Needs numpy, pillow, torch and safetensors.

The fuzz targets put the fingerprints and checksums of their models into files that are bound to them, so any stand
here.
"""

import collections
import hashlib
import io
import json
import pathlib
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
NO_SUM = "0" * 64


def write(target, name, content):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode()
    (folder / name).write_bytes(content)


def ramp(width, height, channels=3):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return ((x * 11 + y * 7 + c * 60) % 256).astype(np.uint8)


def images():
    def keep(name, image, kind, **options):
        out = io.BytesIO()
        image.save(out, kind, **options)
        write("image", name, out.getvalue())

    rgb = Image.fromarray(ramp(16, 12))
    rgba = Image.fromarray(ramp(9, 7, 4))
    grey = rgb.convert("L")
    wide = Image.fromarray(ramp(8, 8)[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    keep("rgb.jpg", rgb, "JPEG", exif=exif)
    keep("progressive.jpg", rgb, "JPEG", progressive=True)
    keep("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
    keep("grey.jpg", grey, "JPEG", restart_marker_rows=1)
    keep("rgb.png", rgb, "PNG")
    keep("rgba.png", rgba, "PNG")
    keep("wide.png", wide, "PNG")
    keep("palette.png", rgb.quantize(7), "PNG", bits=4)
    keep("black.png", grey.convert("1"), "PNG")
    keep("rgb.bmp", rgb, "BMP")
    keep("palette.bmp", rgb.quantize(16), "BMP")
    keep("black.bmp", grey.convert("1"), "BMP")
    keep("rgb.gif", rgb, "GIF")
    keep("two.gif", grey, "GIF", save_all=True, append_images=[rgb.convert("L").rotate(90)])
    keep("lossy.webp", rgb, "WEBP")
    keep("lossless.webp", rgba, "WEBP", lossless=True, exif=exif)
    keep("animated.webp", rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])
    for method in ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"]:
        keep(f"{method}.tif", rgb, "TIFF", compression=method)
    keep("group4.tif", grey.convert("1"), "TIFF", compression="group4")
    keep("float.tif", Image.fromarray(ramp(6, 5)[..., 0].astype(np.float32) / 255), "TIFF")
    keep("big.tif", wide, "TIFF", big_tiff=True)


def arrays():
    def keep(name, array, version=None):
        out = io.BytesIO()
        np.lib.format.write_array(out, array, version)
        write("npy", name, out.getvalue())

    for kind in ["?", "u1", "i1", "<f4", ">f8", "<f2", "<i8", ">u2"]:
        keep(f"{kind.strip('<>?') or 'b1'}.npy", (ramp(4, 4)[..., 0] % 5).astype(kind))
    keep("layers.npy", np.ones((2, 3, 17), np.float32))
    keep("fortran.npy", np.asfortranarray(ramp(4, 5)[..., 0]))
    keep("structured.npy", np.zeros(3, [("a", "<f4", (2, 2)), ("b", "u1")]))
    keep("second.npy", np.ones((1, 4, 4), np.float32), (2, 0))


def prompts():
    rle = {"size": [6, 8], "counts": [8, 4, 2, 4, 2, 4, 24]}
    click = {"at": {"x": 3.0, "y": 4.5}, "positive": True}
    corner = {"x": 1.0, "y": 2.0}
    box = {"min": corner, "max": {"x": 9.5, "y": 8.0}}
    mask = {"mask": rle}
    logits = {"logits": {"side": 2, "values": [0.5, -1.0, 2.0, 0.0]}}
    write("prompt", "click.json", json.dumps({"clicks": [click, click | {"positive": False}]}))
    write("prompt", "box.json", json.dumps({"box": box, "single_mask": True, "intent": "segments"}))
    write("prompt", "mask.json", json.dumps({"mask": mask}))
    write("prompt", "logits.json", json.dumps({"clicks": [click], "mask": logits}))
    write("prompt", "rle.json", json.dumps(rle))
    write("prompt", "compressed.json", json.dumps({"size": [30, 40], "counts": "`U1"}))
    write("prompt", "plain", "Pl0`0^O1")
    options = {"points_per_side": 8, "pred_iou_thresh": 0.8, "crop_n_layers": 1}
    write("prompt", "options.json", json.dumps(options))
    for name in ["best", "score", "part", "area=0.25"]:
        write("prompt", name.replace("=", "-"), name)
    write("prompt", "zoom.json", '{"factor":2.5}')


def weights():
    """Some of the first names of SAM ViT, so that all wrappings are recognised."""
    return {
        "image_encoder.pos_embed": torch.ones(1, 2, 2, 8),
        "image_encoder.patch_embed.proj.weight": torch.ones(8, 3, 2, 2, dtype=torch.float16),
        "mask_decoder.iou_token.weight": torch.ones(1, 8, dtype=torch.bfloat16),
    }


def checkpoints():
    def keep(name, content, **options):
        out = io.BytesIO()
        torch.save(content, out, **options)
        write("pth", name, out.getvalue())

    flat = weights()
    keep("flat.pth", flat)
    keep("legacy.pth", flat, _use_new_zipfile_serialization=False)
    shared = torch.zeros(4, 6)
    views = {"a": shared[1:3, ::2], "b": shared.T, "c": torch.tensor(3), "d": torch.zeros(0)}
    keep("views.pth", views)
    under = {f"sam.{key}": value for key, value in flat.items()}
    keep("nested.pth", {"epoch": 3, "model_state": under, "ema": flat, "list": [1, None, "x"]})
    small = ROOT / "crates/samara-model/tests/golden"
    write("pth", "half.pth", (small / "sam_vit_f16.pth").read_bytes())

    arrays = {key: value.to(torch.float32).numpy() for key, value in flat.items()}
    write("safetensors", "flat.safetensors", save(arrays))
    wrapped = {f"module._orig_mod.{key}": value for key, value in arrays.items()}
    write("safetensors", "wrapped.safetensors", save(wrapped | {f"ema.{k}": v for k, v in arrays.items()}))
    key = "image_encoder.neck.0.weight"
    int8 = {key: np.ones((2, 4, 1, 1), np.int8), f"{key}.i8_scale": np.ones(2, np.float32)}
    head = {"candidate_head.match.0.weight": np.ones((2, 3), np.float32)}
    write("safetensors", "int8.safetensors", save(int8 | head, {"samara.name": "a"}))
    theirs = {
        "vision_encoder.backbone.blocks.0.layer_norm1.weight": np.ones(4, np.float16),
        "prompt_encoder.point_embed.weight": np.ones((4, 8), np.float32),
        "shared_image_embedding.positional_embedding": np.ones((2, 4), np.float32),
    }
    write("safetensors", "transformers.safetensors", save(theirs))
    file = (ROOT / "crates/samara-model/tests/golden/sam2_video.safetensors").read_bytes()
    header = json.loads(file[8 : 8 + int.from_bytes(file[:8], "little")])
    write("safetensors", "sam2.safetensors", save(arrays, header["__metadata__"]))


class Pickle:
    """A pickle of protocol 2, as `torch.save` writes it."""

    def __init__(self):
        self.bytes = b"\x80\x02"

    def raw(self, code):
        self.bytes += code
        return self

    def text(self, text):
        return self.raw(b"X" + len(text).to_bytes(4, "little") + text.encode())

    def ints(self, values):
        self.raw(b"(")
        for value in values:
            self.raw(b"K" + bytes([value]))
        return self.raw(b"t")

    def tensor(self, key, shape, strides, function="_rebuild_tensor_v2", storage="FloatStorage"):
        self.raw(b"ctorch._utils\n" + function.encode() + b"\n((")
        self.text("storage").raw(b"ctorch\n" + storage.encode() + b"\n")
        self.text(key).text("cpu").raw(b"K\x10tQK\x00").ints(shape).ints(strides)
        return self.raw(b"\x89ccollections\nOrderedDict\n)RtR")


def pickles():
    one = Pickle().raw(b"}(").text("image_encoder.pos_embed").tensor("0", [2, 8], [8, 1])
    write("pickle", "one", one.raw(b"u.").bytes)
    two = Pickle().raw(b"ccollections\nOrderedDict\n)R(").text("model").raw(b"}(")
    two.text("image_encoder.a").tensor("0", [4], [1], storage="HalfStorage")
    two.text("vision_encoder.layers.b").tensor("1", [2, 2], [1, 2], storage="LongStorage")
    two.raw(b"u").text("epoch").raw(b"M\x00\x01").text("rates").raw(b"](G?\xf0\0\0\0\0\0\0K\x01e")
    write("pickle", "nested", two.raw(b"u}bq\x00.").bytes)
    parameter = Pickle().raw(b"}").text("w").raw(b"ctorch._utils\n_rebuild_parameter\n(")
    parameter.tensor("0", [4], [1]).raw(b"\x88ccollections\nOrderedDict\n)RtRs.")
    write("pickle", "parameter", parameter.bytes)


def embeddings():
    values = np.linspace(-1, 1, 8 * 8 * 32, dtype=np.float32).reshape(1, 8, 8, 32)
    metadata = {
        "samara.architecture": "sam-vit (width 16, 4 blocks)",
        "samara.fingerprint": NO_SUM,
        "samara.frame": json.dumps({"original": [96, 64], "content": [128, 85], "side": 128}),
        "samara.image_sha256": NO_SUM,
        "samara.values_sha256": hashlib.sha256(values.tobytes()).hexdigest(),
    }
    write("embedding", "small", save({"image_embedding": values}, metadata))


def safetensors(tensors, metadata):
    """As the library writes it, which knows no bf16 without torch."""
    header, data = {"__metadata__": metadata}, b""
    for name, (dtype, shape, values) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    header = json.dumps(header, separators=(",", ":")).encode()
    return len(header).to_bytes(8, "little") + header + data


def sessions():
    def keep(name, outputs, memory, pointer, visited, options=None):
        tensors, objects = {}, collections.defaultdict(lambda: {"outputs": [], "visited": visited})
        for number, frame, role, seen in outputs:
            output = {"frame": frame, "role": role, "seen": seen, "iou": 0.9, "object_score": 3.0}
            objects[str(number)]["outputs"].append(output)
            begin = f"{number}.{frame}.{role.lower()}{'' if seen else '.pending'}"
            logits = np.where(np.indices((32, 32)).sum(0) % 20 < 9, 4, -4).astype(np.float32)
            tensors[f"{begin}.low_res"] = ("F32", [1024], logits.tobytes())
            tensors[f"{begin}.memory"] = ("BF16", [memory], b"\x80\x3f" * memory)
            tensors[f"{begin}.pointer"] = ("F32", [pointer], b"\0\0\x80\x3f" * pointer)
        saved = {
            "options": options or {},
            "size": [64, 48],
            "position": {"frame": 2, "direction": "forward"},
            "objects": objects,
        }
        metadata = {
            "samara.checksum": NO_SUM,
            "samara.fingerprint": NO_SUM,
            "samara.video_session": json.dumps(saved),
        }
        write("session", name, safetensors(tensors, metadata))

    spans = [{"first": 0, "last": 2, "direction": "forward"}]
    tracked = [(1, 0, "Conditioning", True), (1, 2, "Tracked", True)]
    keep("sam2", tracked, 64 * 16, 32, spans, {"num_frames": 8, "non_overlap_masks": True})
    keep("pending", [(1, 3, "Conditioning", False)], 64 * 16, 32, [])
    keep("carried", tracked[:1] + [(2, 2, "Conditioning", True)], 64, 32, spans)
    keep("none", [], 0, 0, [])


def annotations():
    image = {"id": 1, "file_name": "a.png", "width": 8, "height": 6, "split": "train"}
    ring = [1.0, 1.0, 6.5, 1.0, 6.5, 4.0, 1.0, 4.0]
    rle = {"size": [6, 8], "counts": [8, 4, 2, 4, 2, 4, 24]}
    packed = {"size": [6, 8], "counts": "842000f0"}
    common = {"image_id": 1, "category_id": 7, "area": 12.0, "bbox": [1, 1, 5, 3], "iscrowd": 0}
    shapes = [[ring], rle, packed, [ring, ring[::-1]], "none"]
    objects = [{"id": i, "segmentation": shape} | common for i, shape in enumerate(shapes)]
    objects[0] |= {"annotator": 2, "level": "part"}
    whole = {"images": [image], "annotations": objects, "categories": [{"id": 7, "name": "cup"}]}
    write("coco", "whole.json", json.dumps(whole))
    write("coco", "images.json", json.dumps({"images": [image, image | {"id": 2, "split": None}]}))
    for i, one in enumerate(objects):
        write("coco", f"one-{i}.json", json.dumps({"images": [image], "annotations": [one]}))


def recipes():
    recipes = ["models/lite/recipe.toml", "examples/nuclei/recipe.toml", "examples/quality/recipe.toml"]
    for path in recipes:
        text = (ROOT / path).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        write("recipe", path.replace("/", "-"), "\n".join(lines))
    module = (ROOT / "crates/samara-train/src/recipe/mod.rs").read_text()
    example = module.split("//! ```toml\n")[1].split("//! ```\n")[0]
    write("recipe", "example.toml", example.replace("//! ", ""))


def journals():
    def line(entry):
        text = json.dumps(entry, separators=(",", ":"))[:-1].encode()
        return text + b',"crc32":"%08x"}\n' % zlib.crc32(text)

    header = b'{"model":"lite","options":{"points":32}}\n'
    masks = [{"id": 1, "segmentation": {"size": [6, 8], "counts": [8, 4, 2, 4, 2, 4, 24]}}]
    entries = [{"frame": 0, "objects": masks}, {"frame": 1}, {"frame": 2, "image": "a.png"}]
    write("journal", "whole.jsonl", header + b"".join(map(line, entries)))
    write("journal", "cut.jsonl", header + line(entries[1]) + line(entries[0])[:-20])
    write("journal", "other.jsonl", header.replace(b"32", b"16") + line(entries[1]))
    write("journal", "empty.jsonl", b"")


def heads():
    tensors = {}
    for i, (inputs, outputs) in enumerate([(3, 4), (4, 4), (4, 1)]):
        tensors[f"layer{i}.weight"] = np.ones((outputs, inputs), np.float32)
        tensors[f"layer{i}.bias"] = np.ones(outputs, np.float32)
    write("quality_head", "small", save(tensors, {"samara.fingerprint": NO_SUM}))


for make in [
    images,
    arrays,
    prompts,
    checkpoints,
    pickles,
    embeddings,
    sessions,
    annotations,
    recipes,
    journals,
    heads,
]:
    make()
