"""The peers of `samara bench --turns`: PyTorch, ONNX Runtime and OpenVINO on the same weights.

    python peers.py export MODEL CHECKPOINT FOLDER BATCH
    python peers.py torch MODEL CHECKPOINT THREADS
    python peers.py onnxruntime|openvino MODEL FOLDER THREADS

MODEL is vit_b, vit_l, vit_h, mobile_sam, or one of SAM 2 such as sam2.1_tiny. `export` writes the graphs that ONNX Runtime and OpenVINO take: the image
encoder, and the decoder for one click and for BATCH clicks. A runtime reads lines that name the work (embed, prompt,
batch N) and answers every one with the milliseconds it took.

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


def export(model: str, checkpoint: str, folder: str, batch: str) -> None:
    import torch

    encoder, decoder = load(model, checkpoint)
    graphs = {"encoder": (encoder, [PIXELS])}
    for count in {1, int(batch)}:
        graphs[f"decoder{count}"] = (decoder, [*features(model), *clicks(count)])
    for name, (module, inputs) in graphs.items():
        names = [f"input{i}" for i in range(len(inputs))]
        inputs = tuple(torch.from_numpy(x) for x in inputs)
        path = str(Path(folder) / f"{name}.onnx")
        torch.onnx.export(module, inputs, path, input_names=names, opset_version=17, dynamo=False)


class Torch:
    def __init__(self, model: str, checkpoint: str, threads: str):
        import torch

        self.torch, self.model = torch, model
        torch.set_num_threads(int(threads))
        encoder, decoder = load(model, checkpoint)
        self.modules = {"encoder": encoder, "decoder": decoder}

    def run(self, name: str, inputs: list[np.ndarray]):
        with self.torch.inference_mode():
            return self.modules[name.rstrip("0123456789")](*map(self.torch.from_numpy, inputs))


class Exported:
    """A runtime that takes ONNX files."""

    def __init__(self, model: str, folder: str, threads: str):
        self.model, self.threads = model, int(threads)
        self.graphs = {path.stem: self.compile(str(path)) for path in Path(folder).glob("*.onnx")}


class OnnxRuntime(Exported):
    def compile(self, path: str):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, name: str, inputs: list[np.ndarray]):
        return self.graphs[name].run(None, {f"input{i}": x for i, x in enumerate(inputs)})


class OpenVino(Exported):
    def compile(self, path: str):
        import openvino

        # The default on a CPU with bf16 would be another precision than that of the others.
        config = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}
        return openvino.Core().compile_model(path, "CPU", config)

    def run(self, name: str, inputs: list[np.ndarray]):
        return self.graphs[name](inputs)[0]


RUNTIMES = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def answer(runtime) -> None:
    for line in sys.stdin:
        work, *count = line.split()
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
