"""``python -m samara.ray INPUT OUTPUT``: many pictures to Parquet, on a Ray cluster."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import Any, NoReturn

import ray
import ray.data

import samara
from samara.errors import OptionError, SamaraError
from samara.ray._output import Output
from samara.ray._pictures import pictures
from samara.ray._run import Done, run
from samara.ray._segment import SELECT, Segment, one_line

GENERATOR = {
    "points_per_side": int,
    "points_per_batch": int,
    "pred_iou_thresh": float,
    "stability_score_thresh": float,
    "stability_score_offset": float,
    "box_nms_thresh": float,
    "crop_n_layers": int,
    "crop_nms_thresh": float,
    "crop_overlap_ratio": float,
    "crop_n_points_downscale_factor": int,
    "min_mask_region_area": int,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; its exit status."""
    flags = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(flags)
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on with what {flags.output} has", file=sys.stderr)
        return 130
    except (SamaraError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except ray.exceptions.RayError as error:
        print(f"error: {_cause(error)}", file=sys.stderr)
        return 1
    finally:
        ray.shutdown()


def _run(flags: argparse.Namespace) -> int:
    names = [*GENERATOR, "use_m2m", "adaptive"]
    options = {name: value for name in names if (value := getattr(flags, name)) is not None}
    segment: dict[str, Any] = {
        "mode": flags.mode,
        "model": flags.checkpoint or flags.model,
        "precision": flags.precision,
        **options,
    }
    if flags.checkpoint:
        segment["model"] = os.path.abspath(flags.checkpoint)
    if flags.select:
        segment["select"] = flags.select
    # Whatever is wrong with the options is told before anything is begun.
    segmenter = Segment(**segment).segmenter
    found = pictures(flags.input, flags.mode == "prompts")
    output = Output(_absolute(flags.output))
    output.begin(
        {
            "samara": samara.__version__,
            "model": segmenter.name,
            "weights": segmenter.fingerprint,
            "precision": segmenter.precision,
            "mode": flags.mode,
            **({"select": flags.select} if flags.select else {}),
            "options": options,
        }
    )
    output.clean()
    sizes = output.plan(found, flags.part_size)
    done = output.done()
    parts = [part for part in range(len(sizes)) if part not in done]
    fingerprint = segmenter.fingerprint
    # The same on every node, whatever its processor is best at.
    segment["precision"] = segmenter.precision
    del segmenter, found
    now = Done()
    if parts:
        _connect(flags.address)
        actors = min(flags.actors or _actors(flags.threads), len(parts))
        worker = {"fingerprint": fingerprint, "segment": {**segment, "threads": flags.threads}}
        now = run(output, parts, sizes, worker, actors, flags.threads)
        output.clean()
    if now.pictures:
        print(f"{now.pictures} pictures in this run, {now.seconds / now.pictures:.2f} s of processor time each")
    print(f"{sum(sizes) - now.failed} of {sum(sizes)} pictures are in {flags.output}/parts")
    if now.failed:
        print(f"error: {now.failed} failed; {flags.output}/errors says why", file=sys.stderr)
    return int(now.failed > 0)


def _connect(address: str | None) -> None:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=True)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _actors(threads: int) -> int:
    """As many actors as fit on the nodes that are there."""
    nodes: Any = ray.nodes
    cpus = [node["Resources"].get("CPU", 0) for node in nodes() if node["Alive"]]
    actors = sum(int(count // threads) for count in cpus)
    if actors == 0:
        raise OptionError(f"threads {threads}: the largest node has {max(cpus, default=0):.0f} CPUs; see --actors")
    return actors


def _absolute(url: str) -> str:
    return url if "://" in url else os.path.abspath(url)


def _cause(error: BaseException) -> str:
    while (cause := getattr(error, "cause", None) or error.__cause__) is not None:
        error = cause
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m samara.ray",
        description="Segments pictures on a Ray cluster and writes Parquet. The same command goes on with a run that "
        "was interrupted; pictures that failed are tried again.",
    )
    parser.add_argument("input", metavar="INPUT", help="folder, pattern, picture, or list (.txt, .jsonl, .parquet)")
    parser.add_argument("output", metavar="OUTPUT", help="folder of the run; on a disk or behind an URL")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="NAME", help="a released model by name, on every node (default: lite)")
    model.add_argument("--checkpoint", metavar="FILE", help="file of a checkpoint, the same on every node")
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "int8"),
        default="auto",
        help="numbers that are multiplied; auto is what this machine's processor is best at (default: auto)",
    )
    parser.add_argument("--mode", choices=("everything", "prompts", "embed"), default="everything")
    parser.add_argument("--select", choices=SELECT, help="which candidate is the mask of a prompt (default: best)")
    parser.add_argument("--actors", metavar="N", type=_at_least_one, help="processes with a model (default: all CPUs)")
    parser.add_argument(
        "--threads", metavar="N", type=_at_least_one, default=1, help="CPUs of an actor, and its threads (default: 1)"
    )
    parser.add_argument(
        "--part-size", metavar="N", type=_at_least_one, default=20, help="pictures of a part file (default: 20)"
    )
    parser.add_argument("--address", help="of the cluster (default: RAY_ADDRESS, or this machine alone)")
    generator = parser.add_argument_group("of the mode everything, as of samara.MaskGenerator")
    for name, kind in GENERATOR.items():
        generator.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=kind)
    for name in ("use_m2m", "adaptive"):
        generator.add_argument(f"--{name.replace('_', '-')}", action="store_true", default=None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
