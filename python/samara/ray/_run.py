"""A run: parts go to actors, which read pictures and write the results themselves."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from samara.errors import CheckpointError, OptionError
from samara.ray._output import Output
from samara.ray._pictures import read
from samara.ray._segment import Segment, one_line

READ_AHEAD = 4
TRIES = 3


@dataclasses.dataclass
class Done:
    """What a run has done, and the processor time of its actors."""

    pictures: int = 0
    failed: int = 0
    seconds: float = 0.0


class Ledger:
    """Which pictures were begun, how often, and how many are finished."""

    def __init__(self) -> None:
        self._begun: collections.Counter[tuple[int, int]] = collections.Counter()
        self._finished: dict[int, int] = {}

    def begin(self, part: int, index: int) -> int:
        """How often a picture was begun and not finished, this time included."""
        self._begun[part, index] += 1
        return self._begun[part, index]

    def finish(self, part: int, index: int) -> None:
        """The picture did not end its process."""
        del self._begun[part, index]
        self._finished[part] = index + 1

    def finished(self) -> int:
        """How many pictures are finished."""
        return sum(self._finished.values())


class Worker:
    """An actor that writes parts."""

    def __init__(self, url: str, ledger: Any, fingerprint: str, segment: dict[str, Any]) -> None:
        self._output = Output(url)
        self._ledger = ledger
        self._segment = Segment(**segment)
        node = ray.get_runtime_context().get_node_id()[:8]
        if self._segment.segmenter.fingerprint != fingerprint:
            raise CheckpointError(f"model: has other weights on node {node}")
        if not self._output.fs.isfile(f"{self._output.root}/run.json"):
            raise OptionError(f"{url}: is not seen by node {node}; give a folder that all nodes share")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Writes a part, unless an earlier try has done so."""
        start = time.process_time()
        (part,) = batch["part"].to_pylist()
        done = self._output.paths(part)
        pictures = [picture for picture in self._output.part(part) if picture["path"] not in done]
        failed = 0
        if pictures or not self._output.is_done(part):
            failed = self._output.write(part, self._segment.mode, self._rows(part, pictures))
        seconds = time.process_time() - start
        return pa.table({"part": [part], "pictures": [len(pictures)], "failed": [failed], "seconds": [seconds]})

    def _rows(self, part: int, pictures: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        reads: collections.deque[concurrent.futures.Future[bytes]] = collections.deque()
        for i, picture in enumerate(pictures):
            while len(reads) < READ_AHEAD and i + len(reads) < len(pictures):
                reads.append(_reading(pictures[i + len(reads)]["path"]))
            data = reads.popleft()
            tries = ray.get(self._ledger.begin.remote(part, i))
            if tries > TRIES:
                error = f"the process ended {TRIES} times at this picture: it may need more memory than there is"
                row = {"error": error}
            else:
                try:
                    row = self._segment.segment(data.result(), picture)
                except Exception as error:  # Also what file systems raise.
                    row = {"error": one_line(error)}
            yield {"path": picture["path"], **row}
            self._ledger.finish.remote(part, i)


def _reading(path: str) -> concurrent.futures.Future[bytes]:
    """Reads a file on a thread that does not keep the process when it hangs."""
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(read(path))
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def run(output: Output, parts: list[int], sizes: list[int], worker: dict[str, Any], actors: int, threads: int) -> Done:
    """Segments the pictures of `parts`.

    Parameters
    ----------
    output : Output
    parts : list of int
        What is to be done.
    sizes : list of int
        The pictures of every part.
    worker : dict
        ``fingerprint`` and ``segment`` of :class:`Worker`.
    actors, threads : int
        How many actors, and how many CPUs each of them has.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
    # A block for each part: what is begun again after a failure is one part.
    dataset = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
    results = dataset.map_batches(
        Worker,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=threads,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        fn_constructor_kwargs={"url": output.url, "ledger": ledger, **worker},
    )
    done = Done()
    with _progress(ledger, sum(sizes[part] for part in parts)):
        for row in results.iter_rows():
            done.pictures += row["pictures"]
            done.failed += row["failed"]
            done.seconds += row["seconds"]
    lost = set(parts) - {part for part in parts if output.is_done(part)}
    if lost:
        raise OptionError(f"{output.url}: {len(lost)} parts were written and are not there; do all nodes share it?")
    return done


@contextlib.contextmanager
def _progress(ledger: Any, total: int) -> Iterator[None]:
    """Tells how many pictures are finished: a line that moves on a terminal, or a line each minute."""
    ended = threading.Event()
    terminal = sys.stderr.isatty()
    start = time.monotonic()

    def tell() -> None:
        while not ended.wait(1 if terminal else 60):
            with contextlib.suppress(ray.exceptions.RayError):
                finished = ray.get(ledger.finished.remote())
                left = (time.monotonic() - start) * (total - finished) / finished if finished else float("nan")
                text = f"{finished} of {total} pictures, {left / 60:.0f} min left"
                print(
                    f"\r{text}\x1b[K" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True
                )

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
