"""The folder of a run: what it does, which pictures are in which part, and the parts that are done.

``run.json`` has the options. Row group *i* of ``pictures.parquet`` lists the pictures of part *i*; it only grows, so
that whoever writes a part, and however often, writes the same rows under the same name. ``parts/`` has what was
found, ``errors/`` what was not: a picture is in one of the two. A part is done when its file in ``parts/`` is there;
the errors of a part are written before it, and are removed after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from samara.errors import OptionError
from samara.ray._pictures import SCHEMA
from samara.ray._segment import Mode, columns

ROW_GROUP = 64 << 20
ERRORS = pa.schema({"path": pa.string(), "error": pa.string()})


class Output:
    """A folder on a disk or behind an URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = fsspec.core.url_to_fs(url)
        self.root = self.root.rstrip("/")

    def begin(self, settings: dict[str, Any]) -> None:
        """Begins a run, or goes on with one of the same settings.

        Raises
        ------
        OptionError
            The folder holds a run of other settings, or something else.
        """
        if self.fs.isfile(f"{self.root}/run.json"):
            before = _flat(json.loads(self.fs.cat_file(f"{self.root}/run.json")))
            now = _flat(settings)
            for name in dict.fromkeys([*before, *now]):
                was, to_be = (json.dumps(run[name]) if name in run else "the default" for run in (before, now))
                if was != to_be:
                    raise OptionError(f"{self.url}: that run has {name} {was}, and this one {to_be}")
        elif self.fs.isfile(self.root):
            raise OptionError(f"{self.url}: is a file, expected a folder")
        elif self.fs.isdir(self.root) and self.fs.ls(self.root, detail=False):
            raise OptionError(f"{self.url}: holds something that is no run; give a new folder")
        else:
            with self._whole("run.json") as file:
                file.write(json.dumps(settings, indent=1).encode())

    def plan(self, pictures: pa.Table, part_size: int) -> list[int]:
        """Adds the pictures that are not in the plan, in new parts; the number of pictures in every part.

        Raises
        ------
        OptionError
            A picture has other prompts than in the plan.
        """
        known: dict[str, int] = {}
        old: list[pa.Table] = []
        if self.fs.isfile(f"{self.root}/pictures.parquet"):
            with self.fs.open(f"{self.root}/pictures.parquet", "rb") as file:
                plan = pq.ParquetFile(file)
                old = [plan.read_row_group(i) for i in range(plan.num_row_groups)]
        for table in old:
            known.update(_prompts_by_path(table))
        new = []
        for i, (path, prompts) in enumerate(_prompts_by_path(pictures)):
            if path not in known:
                new.append(i)
            elif known[path] != prompts:
                raise OptionError(f"{path}: has other prompts than in the run in {self.url}")
        parts = [pictures.take(new[i : i + part_size]) for i in range(0, len(new), part_size)]
        if parts:
            with self._whole("pictures.parquet") as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for table in (*old, *parts):
                    writer.write_table(table, row_group_size=max(1, table.num_rows))
        return [table.num_rows for table in (*old, *parts)]

    def part(self, part: int) -> list[dict[str, Any]]:
        """The pictures of a part."""
        with self.fs.open(f"{self.root}/pictures.parquet", "rb") as file:
            rows: list[dict[str, Any]] = pq.ParquetFile(file).read_row_group(part).to_pylist()
            return rows

    def done(self) -> set[int]:
        """The parts whose pictures are all done."""
        self.fs.invalidate_cache()
        return self._names("parts") - self._names("errors")

    def is_done(self, part: int) -> bool:
        """Whether the file of a part is there."""
        return bool(self.fs.isfile(f"{self.root}/parts/{part:06}.parquet"))

    def paths(self, part: int) -> set[str]:
        """The pictures that are done of a part."""
        if not self.is_done(part):
            return set()
        with self.fs.open(f"{self.root}/parts/{part:06}.parquet", "rb") as file:
            return set(pq.read_table(file, columns=["path"])["path"].to_pylist())

    def write(self, part: int, mode: Mode, rows: Iterable[dict[str, Any]]) -> int:
        """Adds rows to what is done of a part; how many of them have an error."""
        schema = pa.schema({"path": pa.string(), **columns(mode)})
        schema = schema.remove(schema.get_field_index("error"))
        errors = []
        name = f"{part:06}.parquet"
        with self._whole(f"parts/{name}") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                waiting: list[pa.Table] = []
                for table in self._before(name):
                    writer.write_table(table)
                for row in rows:
                    if row["error"] is not None:
                        errors.append(row)
                        continue
                    waiting.append(pa.Table.from_pylist([row], schema))
                    if sum(table.nbytes for table in waiting) >= ROW_GROUP:
                        writer.write_table(pa.concat_tables(waiting))
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting))
            if errors:
                with self._whole(f"errors/{name}") as file_of_errors:
                    pq.write_table(pa.Table.from_pylist(errors, ERRORS), file_of_errors)
        if not errors and self.fs.isfile(f"{self.root}/errors/{name}"):
            self.fs.rm_file(f"{self.root}/errors/{name}")
        return len(errors)

    def clean(self) -> None:
        """Removes what interrupted runs left unfinished."""
        if self.fs.isdir(f"{self.root}/unfinished"):
            self.fs.rm(f"{self.root}/unfinished", recursive=True)

    def _before(self, name: str) -> Iterator[pa.Table]:
        if self.fs.isfile(f"{self.root}/parts/{name}"):
            with self.fs.open(f"{self.root}/parts/{name}", "rb") as file:
                part = pq.ParquetFile(file)
                for i in range(part.num_row_groups):
                    yield part.read_row_group(i)

    def _names(self, folder: str) -> set[int]:
        if not self.fs.isdir(f"{self.root}/{folder}"):
            return set()
        names = (os.path.basename(path) for path in self.fs.ls(f"{self.root}/{folder}", detail=False))
        return {int(name[:-8]) for name in names if name.endswith(".parquet") and name[:-8].isdigit()}

    @contextlib.contextmanager
    def _whole(self, name: str) -> Iterator[IO[bytes]]:
        """A file that appears when all of it is written."""
        path = f"{self.root}/{name}"
        unfinished = f"{self.root}/unfinished/{uuid.uuid4().hex}"
        for folder in {os.path.dirname(path), os.path.dirname(unfinished)}:
            self.fs.makedirs(folder, exist_ok=True)
        try:
            with self.fs.open(unfinished, "wb") as file:
                yield file
                if isinstance(self.fs, LocalFileSystem):
                    file.flush()
                    os.fsync(file.fileno())
            self.fs.mv(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.fs.rm_file(unfinished)
            raise


def _prompts_by_path(table: pa.Table) -> Iterator[tuple[str, int]]:
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            path = row.pop("path")
            yield path, hash(repr(row))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in settings.items() if name != "options"}
    return {**flat, **settings.get("options", {})}
