"""A tracked frame beside the official predictor: same weights, same image, turn by turn.

    python bench/video.py CHECKPOINT PHOTO --model sam2.1_tiny [--rounds 3]

One object, a full memory of seven frames; a frame is read from memory, embedded and tracked. The
binary is target/release/samara or $SAMARA. CHECKPOINT is an official one, or one of
tests/golden/video_references.py. Needs the packages of tests/golden/requirements.txt.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEMORIES = 7
GOLDEN = Path(__file__).resolve().parents[1] / "tests/golden"


def official(args: argparse.Namespace) -> None:
    """The child process of the official predictor: a line in, milliseconds out."""
    sys.path.insert(0, str(GOLDEN))
    import torch
    from PIL import Image

    from sam2_models import build_video
    from video_references import prepare

    torch.set_num_threads(os.cpu_count())
    predictor = build_video(args.model)
    predictor.load_state_dict(torch.load(args.checkpoint)["model"])
    predictor.fill_hole_area = 0  # needs CUDA
    prepare(predictor)
    photo = Image.open(args.photo).convert("RGB")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for i in range(MEMORIES + args.rounds + 2):
            photo.save(f"{folder}/{i:05}.jpg")
        state = predictor.init_state(folder)
        middle = [[photo.width / 2, photo.height / 2]]
        predictor.add_new_points_or_box(state, 0, 1, points=middle, labels=[1])
        frames = predictor.propagate_in_video(state)
        for _ in range(MEMORIES):
            next(frames)
        print("ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            next(frames)
            print((time.perf_counter() - start) * 1000, flush=True)


def start(command: list[str]) -> subprocess.Popen:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def turn(process: subprocess.Popen, stage: str) -> float:
    process.stdin.write(f"{stage}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("photo")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--official", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.official:
        return official(args)
    binary = os.environ.get("SAMARA", "target/release/samara")
    samara = start([binary, "bench", args.photo, "--checkpoint", args.checkpoint, "--precision", "fp32", "--turns"])
    turn(samara, "track")  # fills the memory
    peer = start([sys.executable, *sys.argv, "--official"])
    peer.stdout.readline()
    times = [(turn(samara, "track"), turn(peer, "track")) for _ in range(args.rounds)]
    for name, column in zip(("samara", "official"), zip(*times)):
        print(f"{name:10} {statistics.median(column) / 1000:6.2f} s a frame")
    ratio = statistics.median(b / a for a, b in times)
    print(f"official / samara: {ratio:.2f}x in time")


if __name__ == "__main__":
    main()
