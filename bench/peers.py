"""The peers of `samara bench --turns`: PyTorch, ONNX Runtime and OpenVINO on the same weights.

    python peers.py RUNTIME MODEL CHECKPOINT THREADS

RUNTIME is torch, onnxruntime or openvino; MODEL is vit_b, vit_l, vit_h or mobile_sam. Lines of standard input name
the work (embed, prompt, batch N); every one is answered with the milliseconds it took.

The image encoder gets pixels that are resized and normalised already, which `samara bench` does inside of its
measurement. The decoder is the prompt encoder and the mask decoder of single clicks up to logits and scores: for ONNX
Runtime and OpenVINO both are exported as one graph with a batch of fixed size.
"""

import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")
SIDE = 1024


def load(model: str, checkpoint: str) -> torch.nn.Module:
    import mobile_sam
    import segment_anything

    package, name = (mobile_sam, "vit_t") if model == "mobile_sam" else (segment_anything, model)
    return package.sam_model_registry[name](checkpoint=checkpoint).eval()


class Decoder(torch.nn.Module):
    """Single clicks to the logits and scores of all mask tokens."""

    def __init__(self, sam: torch.nn.Module):
        super().__init__()
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder

    def forward(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor):
        sparse, dense = self.prompt_encoder(points=(points, labels), boxes=None, masks=None)
        return self.mask_decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )


def clicks(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    side = int(np.ceil(np.sqrt(count)))
    places = [((i % side + 0.5) / side * SIDE, (i // side + 0.5) / side * SIDE) for i in range(count)]
    return torch.tensor(places).reshape(count, 1, 2), torch.ones(count, 1)


class Torch:
    def __init__(self, sam: torch.nn.Module, threads: int):
        torch.set_num_threads(threads)
        self.encoder, self.decoder = sam.image_encoder, Decoder(sam)

    @torch.inference_mode()
    def embed(self, pixels):
        return self.encoder(pixels)

    @torch.inference_mode()
    def decode(self, embedding, count):
        return self.decoder(embedding, *clicks(count))


class Exported:
    """A runtime that takes ONNX files."""

    def __init__(self, sam: torch.nn.Module, threads: int):
        self.sam, self.threads = sam, threads
        self.folder = tempfile.TemporaryDirectory()
        self.graphs = {}

    def graph(self, name: str, module: torch.nn.Module, inputs: tuple):
        if name not in self.graphs:
            path = Path(self.folder.name) / f"{name}.onnx"
            names = [f"input{i}" for i in range(len(inputs))]
            torch.onnx.export(module, inputs, str(path), input_names=names, opset_version=17, dynamo=False)
            self.graphs[name] = self.compile(path)
        return self.graphs[name]

    def embed(self, pixels):
        return self.run(self.graph("encoder", self.sam.image_encoder, (pixels,)), (pixels,))

    def decode(self, embedding, count):
        inputs = (torch.as_tensor(np.asarray(embedding)), *clicks(count))
        return self.run(self.graph(f"decoder{count}", Decoder(self.sam), inputs), inputs)


class OnnxRuntime(Exported):
    def compile(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, session, inputs):
        return session.run(None, {f"input{i}": x.numpy() for i, x in enumerate(inputs)})[0]


class OpenVino(Exported):
    def compile(self, path: Path):
        import openvino

        # The default on a CPU with bf16 would be another precision than that of the others.
        config = {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"}
        return openvino.Core().compile_model(str(path), "CPU", config)

    def run(self, compiled, inputs):
        return compiled([x.numpy() for x in inputs])[0]


RUNTIMES = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def main() -> None:
    runtime, model, checkpoint, threads = sys.argv[1:]
    torch.manual_seed(0)
    peer = RUNTIMES[runtime](load(model, checkpoint), int(threads))
    pixels, embedding = torch.randn(1, 3, SIDE, SIDE), torch.randn(1, 256, SIDE // 16, SIDE // 16)
    for line in sys.stdin:
        work, *count = line.split()
        start = time.perf_counter()
        if work == "embed":
            peer.embed(pixels)
        else:
            peer.decode(embedding, int(count[0]) if count else 1)
        print((time.perf_counter() - start) * 1000, flush=True)


if __name__ == "__main__":
    main()
