"""Measures Samara beside its peers, turn by turn in one run, and writes a table.

    python compare.py [--rounds 7] [--models vit_b mobile_sam] [--threads N] [--json FILE] [--markdown FILE]

Everyone has the same random weights and takes turns: one measurement of each, then the next round, so that whatever
else the machine does meets all alike. The first round warms up and does not count. Times are medians in milliseconds;
a ratio is the median over the rounds of peer / Samara, with the smallest and the largest.
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
PEERS = ["torch", "onnxruntime", "openvino"]
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


def measure(model: str, samara: str, threads: int, rounds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(weights(model, Path(folder)))
        peers = [sys.executable, str(HERE / "peers.py")]
        subprocess.run([*peers, "export", model, checkpoint, folder, str(BATCH)], check=True)
        inputs = {"torch": [model, checkpoint], "onnxruntime": [model, folder], "openvino": [model, folder]}
        workers = {
            "samara": Worker(
                [samara, "bench", "--checkpoint", checkpoint, "--turns", "--prompts", str(BATCH), "--threads", str(threads)],
                {},
            )
        } | {
            peer: Worker([*peers, peer, *inputs[peer], str(threads)], {"OMP_NUM_THREADS": str(threads)})
            for peer in PEERS
        }
        times = {name: {work: [] for work in WORKS} for name in workers}
        for number in range(rounds + 1):
            for work in WORKS:
                for name, worker in workers.items():
                    line = f"batch {BATCH}" if work == "batch" and name != "samara" else work
                    sleep(SETTLE)
                    time = worker.ask(line)
                    if number > 0:
                        times[name][work].append(time)
                    print(f"\r{model}: round {number} of {rounds}, {work}, {name}: {time:.0f} ms    ", end="", file=sys.stderr)
        print(file=sys.stderr)
        memory = {name: worker.memory() for name, worker in workers.items()}
        for worker in workers.values():
            worker.end()
    return {"times": times, "memory": memory}


def ratio(peer: list[float], own: list[float]) -> str:
    ratios = [a / b for a, b in zip(peer, own)]
    return f"{statistics.median(ratios):.2f}× ({min(ratios):.2f}–{max(ratios):.2f})"


def table(results: dict) -> str:
    lines = ["| Work | Samara | PyTorch | ONNX Runtime | OpenVINO |", "|---|---|---|---|---|"]
    labels = {"embed": "image embedding", "prompt": "one click", "batch": f"{BATCH} clicks, one batch"}
    for model, result in results.items():
        for work, label in labels.items():
            own = result["times"]["samara"][work]
            cells = [f"**{statistics.median(own):.1f} ms**"]
            for peer in PEERS:
                other = result["times"][peer][work]
                cells.append(f"{statistics.median(other):.1f} ms · {ratio(other, own)}")
            lines.append(f"| {model}, {label} | " + " | ".join(cells) + " |")
        memory = [f"{result['memory'][name]:.0f} MB" for name in ["samara", *PEERS]]
        lines.append(f"| {model}, most memory in all | " + " | ".join(memory) + " |")
    return "\n".join(lines)


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ["torch", "onnxruntime", "openvino"])


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
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    flags = parser.parse_args()
    results = {model: measure(model, flags.samara, flags.threads, flags.rounds) for model in flags.models}
    facts = f"{cpu()}, {flags.threads} threads, {flags.rounds} rounds, commit {commit()}; {versions()}."
    text = f"{table(results)}\n\n{facts}\n"
    print(text)
    if flags.markdown:
        flags.markdown.write_text(text)
    if flags.json:
        flags.json.write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
