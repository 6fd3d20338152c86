"""The peers of `samara bench --turns`: PyTorch, ONNX Runtime and OpenVINO on the same weights.

    python peers.py export MODEL CHECKPOINT FOLDER BATCH PICTURE...
    python peers.py torch MODEL CHECKPOINT THREADS fp32|bf16
    python peers.py onnxruntime MODEL FOLDER THREADS fp32|int8
    python peers.py openvino MODEL FOLDER THREADS fp32|bf16|int8

MODEL is vit_b, vit_l, vit_h, mobile_sam, or one of SAM 2 such as sam2.1_tiny. `export` writes the graphs that ONNX Runtime
and OpenVINO take: the image encoder, and the decoder for one click and for BATCH clicks; and the encoder in int8 as NNCF
(for OpenVINO, over the pictures) and ONNX Runtime's dynamic quantisation make it. A runtime reads lines that name the
work (embed, prompt, batch N) and answers every one with the milliseconds it took; `error PICTURE` is answered with the
relative error of its embedding against that of PyTorch in fp32, whose embeddings `export` keeps.

With int8, what is not quantised is computed in bf16 by OpenVINO, as it does by default, and the decoder is the one of
fp32, which both compute as they do by default.

The image encoder gets pixels that are resized and normalised already, which `samara bench` does inside of its
measurement. The decoder is the prompt encoder and the mask decoder of single clicks up to logits and scores: one graph
with a batch of fixed size.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")
SIDE = 1024
PIXELS = np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE), np.float32)
SHAPES = [(1, 256, SIDE // 16, SIDE // 16), (1, 32, SIDE // 4, SIDE // 4), (1, 64, SIDE // 8, SIDE // 8)]
FEATURES = [np.random.default_rng(i + 1).standard_normal(shape, np.float32) for i, shape in enumerate(SHAPES)]


def features(model: str) -> list[np.ndarray]:
    """What the decoder takes of an image."""
    return FEATURES if model.startswith("sam2") else FEATURES[:1]


def clicks(count: int) -> tuple[np.ndarray, np.ndarray]:
    side = int(np.ceil(np.sqrt(count)))
    places = [((i % side + 0.5) / side * SIDE, (i // side + 0.5) / side * SIDE) for i in range(count)]
    return np.array(places, np.float32).reshape(count, 1, 2), np.ones((count, 1), np.float32)


def build(model: str, checkpoint: str | None = None):
    """The official model, with random weights without a checkpoint."""
    if model.startswith("sam2"):
        from sam2.build_sam import build_sam2

        version, size = model.split("_", 1)
        letter = {"base_plus": "b+"}.get(size, size[0])
        config = f"configs/{version}/{version}_hiera_{letter}.yaml"
        return build_sam2(config, checkpoint, device="cpu").eval()
    import mobile_sam
    import segment_anything

    package, name = (mobile_sam, "vit_t") if model == "mobile_sam" else (segment_anything, model)
    return package.sam_model_registry[name](checkpoint=checkpoint).eval()


def load_sam2(model: str, checkpoint: str):
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self, sam: torch.nn.Module):
            super().__init__()
            self.sam = sam

        def forward(self, pixels):
            fine, middle, coarse = self.sam.forward_image(pixels)["backbone_fpn"]
            return coarse + self.sam.no_mem_embed.reshape(1, -1, 1, 1), fine, middle

    class Decoder(torch.nn.Module):
        def __init__(self, sam: torch.nn.Module):
            super().__init__()
            self.prompt_encoder, self.mask_decoder = sam.sam_prompt_encoder, sam.sam_mask_decoder

        def forward(self, embedding, fine, middle, points, labels):
            sparse, dense = self.prompt_encoder(points=(points, labels), boxes=None, masks=None)
            masks, scores, _, _ = self.mask_decoder(
                image_embeddings=embedding,
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
                repeat_image=True,
                high_res_features=[fine, middle],
            )
            return masks, scores

    sam = build(model, checkpoint)
    return Encoder(sam).eval(), Decoder(sam).eval()


def load(model: str, checkpoint: str):
    """The image encoder and the decoder as modules."""
    if model.startswith("sam2"):
        return load_sam2(model, checkpoint)
    import torch

    class Decoder(torch.nn.Module):
        """Single clicks to the logits and scores of all candidates."""

        def __init__(self, sam: torch.nn.Module):
            super().__init__()
            self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder

        def forward(self, embedding, points, labels):
            sparse, dense = self.prompt_encoder(points=(points, labels), boxes=None, masks=None)
            return self.mask_decoder(
                image_embeddings=embedding,
                image_pe=self.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )

    sam = build(model, checkpoint)
    return sam.image_encoder, Decoder(sam).eval()


def pixels_of(path: str) -> np.ndarray:
    """A picture as the encoders take it, by its longest side and with zeros to the right or below."""
    from PIL import Image

    image = Image.open(path).convert("RGB")
    scale = SIDE / max(image.size)
    image = image.resize([round(x * scale) for x in image.size], Image.Resampling.BILINEAR)
    values = (np.asarray(image, np.float32) - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    pixels = np.zeros((1, 3, SIDE, SIDE), np.float32)
    pixels[0, :, : image.height, : image.width] = values.transpose(2, 0, 1)
    return pixels


def reference(folder: str, picture: str) -> Path:
    """Where `export` keeps the embedding of a picture."""
    return Path(folder) / f"{Path(picture).stem}.npy"


def quantise(folder: str, pictures: list[str]) -> None:
    """The encoder in int8, for both runtimes."""
    import nncf
    import openvino
    from onnxruntime.quantization import quantize_dynamic

    encoder = str(Path(folder) / "encoder.onnx")
    data = nncf.Dataset([pixels_of(picture) for picture in pictures])
    model = openvino.Core().read_model(encoder)
    model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(pictures))
    openvino.save_model(model, str(Path(folder) / "encoder-int8.xml"), compress_to_fp16=False)
    # Its convolutions in integers are slower than in fp32, so only matrix products.
    quantize_dynamic(encoder, str(Path(folder) / "encoder-int8.onnx"), op_types_to_quantize=["MatMul"])


def export(model: str, checkpoint: str, folder: str, batch: str, *pictures: str) -> None:
    import torch

    encoder, decoder = load(model, checkpoint)
    for picture in pictures:
        with torch.inference_mode():
            embedding = encoder(torch.from_numpy(pixels_of(picture)))
        np.save(reference(folder, picture), main_output(embedding))
    graphs = {"encoder": (encoder, [PIXELS])}
    for count in {1, int(batch)}:
        graphs[f"decoder{count}"] = (decoder, [*features(model), *clicks(count)])
    for name, (module, inputs) in graphs.items():
        names = [f"input{i}" for i in range(len(inputs))]
        inputs = tuple(torch.from_numpy(x) for x in inputs)
        path = str(Path(folder) / f"{name}.onnx")
        torch.onnx.export(module, inputs, path, input_names=names, opset_version=17, dynamo=False)
    quantise(folder, list(pictures))


def main_output(outputs) -> np.ndarray:
    """The embedding among what an encoder gives, as fp32."""
    first = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    return np.asarray(first.float() if hasattr(first, "float") else first, np.float32)


class Torch:
    def __init__(self, model: str, checkpoint: str, threads: str, precision: str):
        import torch

        self.torch, self.model, self.bf16 = torch, model, precision == "bf16"
        self.folder = str(Path(checkpoint).parent)
        torch.set_num_threads(int(threads))
        encoder, decoder = load(model, checkpoint)
        self.modules = {"encoder": encoder, "decoder": decoder}

    def run(self, name: str, inputs: list[np.ndarray]):
        autocast = self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.bf16)
        with self.torch.inference_mode(), autocast:
            return self.modules[name.rstrip("0123456789")](*map(self.torch.from_numpy, inputs))


class Exported:
    """A runtime that takes ONNX files."""

    # What a file with the encoder in int8 ends with.
    INT8 = ".onnx"

    def __init__(self, model: str, folder: str, threads: str, precision: str):
        self.model, self.folder, self.threads, self.precision = model, folder, int(threads), precision
        paths = {path.stem: path for path in Path(folder).glob("*.onnx") if "-int8" not in path.stem}
        if precision == "int8":
            paths["encoder"] = Path(folder) / f"encoder-int8{self.INT8}"
        self.graphs = {name: self.compile(str(path)) for name, path in paths.items()}


class OnnxRuntime(Exported):
    def compile(self, path: str):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, name: str, inputs: list[np.ndarray]):
        return self.graphs[name].run(None, {f"input{i}": x for i, x in enumerate(inputs)})


class OpenVino(Exported):
    INT8 = ".xml"

    def compile(self, path: str):
        import openvino

        # Without a hint: bf16 where the processor has it.
        hint = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}[self.precision]
        config = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": hint}
        return openvino.Core().compile_model(path, "CPU", config)

    def run(self, name: str, inputs: list[np.ndarray]):
        return self.graphs[name](inputs)[0]


RUNTIMES = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def answer(runtime) -> None:
    for line in sys.stdin:
        work, *count = line.split(maxsplit=1)
        if work == "error":
            picture = count[0].rstrip("\n")
            exact = np.load(reference(runtime.folder, picture))
            error = main_output(runtime.run("encoder", [pixels_of(picture)])) - exact
            print(np.linalg.norm(error) / np.linalg.norm(exact), flush=True)
            continue
        count = int(count[0]) if count else 1
        prompts = [*features(runtime.model), *clicks(count)]
        name, inputs = ("encoder", [PIXELS]) if work == "embed" else (f"decoder{count}", prompts)
        start = time.perf_counter()
        runtime.run(name, inputs)
        print((time.perf_counter() - start) * 1000, flush=True)


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "export":
        export(*arguments)
    else:
        answer(RUNTIMES[command](*arguments))


if __name__ == "__main__":
    main()
