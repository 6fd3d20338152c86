"""Compares the figures of `samara eval --video --predictions` with DAVIS 2017 and the SA-V evaluator.

    pip install numpy pillow opencv-python-headless scikit-image
    python tests/golden/synthetic_video.py DATA
    python tests/golden/compare_video_eval.py DATA target/release/samara

The predictions are the annotations of two frames before; in every fifth frame there are none. What is
compared is how frames become figures: J and F of a frame are those of `vos_references.py`, which equal
the official ones.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from vos_references import contour_f, region_j


def statistics(values):
    """Mean, recall and decay as `db_statistics` of davis2017-evaluation has them."""
    values = np.array(values)
    bounds = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
    decay = values[bounds[0] : bounds[1] + 1].mean() - values[bounds[3] : bounds[4] + 1].mean()
    return values.mean(), (values > 0.5).mean(), decay


def objects(truths, predictions, protocol):
    """(J, F) of the frames of every object; frames are those that count."""
    if protocol == "davis":
        for label in range(1, truths[0].max() + 1):
            pairs = [(p == label, t == label) for p, t in zip(predictions[1:-1], truths[1:-1])]
            yield [(region_j(*pair), contour_f(*pair)) for pair in pairs]
        return
    # vos-benchmark: an object counts from where it is first seen, if the annotations ever show it.
    in_truth, in_prediction, scores = set(), set(), {}
    for p, t in zip(predictions[1:-1], truths[1:-1]):
        in_truth |= set(np.unique(t)) - {0}
        in_prediction |= set(np.unique(p)) - {0}
        for label in in_truth | in_prediction:
            pair = (p == label, t == label)
            scores.setdefault(label, []).append((region_j(*pair), contour_f(*pair)))
    yield from (scores[label] for label in sorted(in_truth))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("samara", type=Path, metavar="SAMARA")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sequences = []
        for source in sorted((args.data / "Annotations/480p").iterdir()):
            files = sorted(source.glob("*.png"))
            truths = [np.array(Image.open(file)) for file in files]
            predictions = [
                truths[max(t - 2, 0)] if t % 5 else np.zeros_like(truths[0]) for t in range(len(truths))
            ]
            out = Path(folder, source.name)
            out.mkdir()
            for file, labels in zip(files, predictions):
                labels = Image.fromarray(labels, "P")
                labels.putpalette(Image.open(file).getpalette())
                labels.save(out / file.name)
            sequences.append((truths, predictions))
        for protocol in ("davis", "sav"):
            command = [args.samara, "eval", args.data, "--video", "--predictions", folder, "--json=-"]
            output = subprocess.run([*command, f"--protocol={protocol}"], check=True, capture_output=True)
            report = json.loads(output.stdout)["data_sets"][0]
            scores = [s for masks in sequences for s in objects(*masks, protocol)]
            assert report["objects"] == len(scores), (report["objects"], len(scores))
            for i, name in enumerate("jf"):
                expected = np.mean([statistics([pair[i] for pair in s]) for s in scores], axis=0)
                found = [report["figures"][name][key] for key in ("mean", "recall", "decay")]
                assert np.allclose(found, expected, rtol=0, atol=1e-12), (protocol, name, found, expected)
                print(protocol, name.upper(), "mean, recall, decay equal:", *(f"{v:.6f}" for v in found))


if __name__ == "__main__":
    main()
