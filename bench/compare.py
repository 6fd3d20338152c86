"""Measures Samara beside its peers, turn by turn in one run, and writes a table.

    python compare.py [--rounds 7] [--models vit_b mobile_sam] [--precisions fp32 bf16 int8] [--threads N]
        [--programs samara openvino torch onnxruntime] [--json FILE] [--markdown FILE]

Everyone has the same random weights. All programs of a precision take turns: one measurement of each, then the next
round, so that whatever else the machine does meets all alike; then the next precision, as all at once would need more
memory than many machines have. The first round warms up and does not count. Times are medians in milliseconds;
a ratio is the median over the rounds of peer / Samara at the same precision, with the smallest and the largest. An
error is the norm of what an embedding is off by that of the embedding in fp32, the median over the pictures.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import sleep

HERE = Path(__file__).resolve().parent
# What everyone can compute in, the fastest way of each.
PRECISIONS = {
    "samara": ["fp32", "bf16", "int8"],
    "openvino": ["fp32", "bf16", "int8"],
    "torch": ["fp32", "bf16"],
    "onnxruntime": ["fp32", "int8"],
}
NAMES = {"samara": "Samara", "openvino": "OpenVINO", "torch": "PyTorch", "onnxruntime": "ONNX Runtime"}
DEFAULTS = (
    "Without being told, OpenVINO and Samara's programs compute in bf16 where the processor has instructions for it and "
    "in fp32 elsewhere; PyTorch, ONNX Runtime and Samara's Rust library in fp32."
)
PICTURES = sorted([*(HERE.parent / "docs/gallery").glob("*.jpg"), HERE.parent / "docs/coffee.png"])
WORKS = ["embed", "prompt", "batch"]
BATCH = 64
# Seconds before every measurement: the threads of a runtime go on spinning for a while when they have answered, and
# would take the processor from whoever is next.
SETTLE = 0.5


class Worker:
    """A process that measures what it is told."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )

    def ask(self, line: str) -> float:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args[0]} ended with status {self.process.wait()} when asked for {line}")
        return float(answer)

    def memory(self) -> float:
        """The most memory that the process has had, in megabytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def weights(model: str, folder: Path) -> Path:
    """A checkpoint with random weights."""
    path = folder / f"{model}.pth"
    code = (
        "import sys, torch\n"
        "from peers import build\n"
        "torch.manual_seed(1)\n"
        "state = build(sys.argv[1]).state_dict()\n"
        "torch.save({'model': state} if sys.argv[1].startswith('sam2') else state, sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, model, str(path)], check=True, cwd=HERE)
    return path


def measure(model: str, flags: argparse.Namespace) -> dict:
    """Times, memory and errors by program and precision."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(weights(model, Path(folder)))
        peers = [sys.executable, str(HERE / "peers.py")]
        pictures = [str(picture) for picture in PICTURES]
        subprocess.run([*peers, "export", model, checkpoint, folder, str(BATCH), *pictures], check=True)

        def command(program: str, precision: str) -> list[str]:
            threads = str(flags.threads)
            if program == "samara":
                own = ["bench", "--checkpoint", checkpoint, "--precision", precision, "--turns"]
                return [flags.samara, *own, "--prompts", str(BATCH), "--threads", threads]
            return [*peers, program, model, checkpoint if program == "torch" else folder, threads, precision]

        results = {}
        for precision in flags.precisions:
            commands = {
                program: command(program, precision)
                for program in flags.programs
                if precision in PRECISIONS[program]
            }
            results |= measure_side_by_side(model, precision, commands, pictures, flags)
    return results


def measure_side_by_side(
    model: str, precision: str, commands: dict[str, list[str]], pictures: list[str], flags: argparse.Namespace
) -> dict:
    """The same of the programs of one precision, by turns."""
    # In int8 the decoder is that of another precision, which has been measured already.
    works = WORKS[:1] if precision == "int8" else WORKS
    environment = {"OMP_NUM_THREADS": str(flags.threads)}
    workers = {program: Worker(command, environment) for program, command in commands.items()}
    results = {program: {"times": {work: [] for work in WORKS}} for program in workers}
    for number in range(flags.rounds + 1):
        for work in works:
            for program, worker in workers.items():
                line = f"batch {BATCH}" if work == "batch" and program != "samara" else work
                sleep(SETTLE)
                time = worker.ask(line)
                if number > 0:
                    results[program]["times"][work].append(time)
                show(f"{model}: round {number} of {flags.rounds}, {work}, {program} {precision}: {time:.0f} ms")
    for program, worker in workers.items():
        results[program]["memory"] = worker.memory()
        results[program]["error"] = statistics.median(worker.ask(f"error {picture}") for picture in pictures)
        show(f"{model}: error, {program} {precision}")
        worker.end()
    print(file=sys.stderr)
    return {f"{program} {precision}": result for program, result in results.items()}


def show(text: str) -> None:
    print(f"\r{text:<78}", end="", file=sys.stderr)


def ratio(peer: list[float], own: list[float]) -> str:
    ratios = [a / b for a, b in zip(peer, own)]
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def table(results: dict) -> str:
    lines = [DEFAULTS, ""]
    lines += [f"| Work | precision | {' | '.join(NAMES.values())} |", "|---" * (2 + len(NAMES)) + "|"]
    labels = {"embed": "image embedding", "prompt": "one click", "batch": f"{BATCH} clicks, one batch"}
    for model, result in results.items():
        for label, cell in [
            *((labels[work], time_cell(work)) for work in WORKS),
            ("error of the embedding", lambda of, own: f"{of['error']:.4f}"),
            ("most memory in all", lambda of, own: f"{of['memory']:.0f} MB"),
        ]:
            for precision in PRECISIONS["samara"]:
                of = [result.get(f"{program} {precision}") for program in NAMES]
                cells = [cell(of_program, of[0]) if of_program else "" for of_program in of]
                if any(cells):
                    lines.append(f"| {model}, {label} | {precision} | {' | '.join(cells)} |")
    return "\n".join(lines)


def time_cell(work: str):
    """What a table says of a program's time, beside Samara's."""

    def cell(of: dict, own: dict | None) -> str:
        times = of["times"][work]
        if not times:
            return ""
        text = f"{statistics.median(times):.1f} ms"
        if of is own:
            return f"**{text}**"
        return f"{text} · {ratio(times, own['times'][work])}" if own else text

    return cell


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ["torch", "onnxruntime", "openvino", "nncf"])


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    answer = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samara", default="samara", help="the program")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["vit_b", "mobile_sam"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS["samara"], default=PRECISIONS["samara"])
    parser.add_argument("--programs", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    flags = parser.parse_args()
    results = {}
    for model in flags.models:
        results[model] = measure(model, flags)
        # What is done is not lost if a later model fails.
        print(table(results))
    facts = f"{cpu()}, {flags.threads} threads, {flags.rounds} rounds, commit {commit()}; {versions()}."
    text = f"{table(results)}\n\n{facts}\n"
    print(facts)
    if flags.markdown:
        flags.markdown.write_text(text)
    if flags.json:
        flags.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
