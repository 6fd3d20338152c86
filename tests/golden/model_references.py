"""Golden references for the models: weights, inputs and the outputs of the official PyTorch code.

    python model_references.py small [OUT]
        Small models, committed. Default OUT: crates/samara-model/tests/golden.
    python model_references.py full OUT --model vit_b [--image photo.png]
        Full width, not committed (50 to 400 MB each). Compare with compare_cli.py.

Every parameter is random (see randomise.py), so no trained weights are needed. The same machine
and the same --threads give the same values. README.md lists the tensors.

Needs the packages of requirements.txt.
"""

import argparse
from pathlib import Path

import torch

from full_models import BUILD, PHOTO, full
from small_models import small

GOLDEN = Path(__file__).resolve().parents[2] / "crates/samara-model/tests/golden"


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    if args.command == "small":
        small(args.out)
    else:
        full(args.out, args.model, args.image)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default 1)")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("small", help="the small models, committed")
    command.add_argument("out", type=Path, nargs="?", default=GOLDEN)
    command = commands.add_parser("full", help="one model at full width, not committed")
    command.add_argument("out", type=Path)
    command.add_argument("--model", choices=BUILD, required=True)
    command.add_argument("--image", type=Path, default=PHOTO, help="a PNG (default coffee.png)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
