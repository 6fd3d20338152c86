"""Which pictures a run works on: those of a folder, of a pattern, or of a list."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from samara.errors import OptionError, PromptError, SamaraError
from samara.ray._segment import PROMPTS, nested, prompts_of

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".jfif")
SCHEMA = pa.schema({"path": pa.string(), **PROMPTS})


def read(path: str) -> bytes:
    """The bytes of a file, on a disk or behind an URL."""
    if os.path.isabs(path):
        with open(path, "rb") as file:
            return file.read()
    fs, inside = fsspec.core.url_to_fs(path)
    data: bytes = fs.cat_file(inside)
    return data


def pictures(source: str, with_prompts: bool) -> pa.Table:
    """The pictures of `source`, each once, with their prompts.

    Raises
    ------
    OptionError
        There are none, or the list is damaged.
    """
    fs, root = fsspec.core.url_to_fs(source)
    lists = {".parquet": _of_parquet, ".jsonl": _of_json_lines, ".txt": _of_lines}
    reader = lists.get(os.path.splitext(root)[1].lower())
    rows: Iterator[dict[str, Any]]
    if reader is not None and fs.isfile(root):
        rows = _listed(source, fs, root, reader, with_prompts)
    elif with_prompts:
        raise OptionError(f"{source}: prompts come from a list of pictures, a .jsonl or .parquet file")
    elif fs.isdir(root):
        found = fs.find(root)
        inside = len(root.rstrip("/")) + 1
        rows = ({"path": _url(fs, path)} for path in sorted(found) if _is_picture(path, path[inside:]))
    elif fs.isfile(root):
        rows = iter([{"path": _url(fs, root)}])
    else:
        rows = ({"path": _url(fs, path)} for path in sorted(fs.glob(root)) if _is_picture(path, ""))
    batches = []
    while batch := [row for _, row in zip(range(10_000), rows, strict=False)]:
        batches.append(pa.Table.from_pylist(batch, SCHEMA))
    if not batches:
        raise OptionError(f"{source}: no pictures there")
    return pa.concat_tables(batches)


def _is_picture(path: str, inside: str) -> bool:
    hidden = any(part.startswith(".") for part in inside.split("/"))
    return path.lower().endswith(EXTENSIONS) and not hidden


def _url(fs: Any, path: str) -> str:
    url = path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)
    # A name that is no text stays apart from others.
    return url.encode("utf-8", "backslashreplace").decode()


def _listed(source: str, fs: Any, root: str, reader: Any, with_prompts: bool) -> Iterator[dict[str, Any]]:
    folder = os.path.dirname(_url(fs, root))
    known = set()
    for place, row in reader(source, fs, root):
        try:
            path = row.get("path") if isinstance(row, dict) else None
            if not isinstance(path, str) or not path:
                raise OptionError("no path of a picture")
            if not os.path.isabs(path) and "://" not in path:
                path = f"{folder}/{path}"
            if path in known:
                raise OptionError(f"{path} comes twice; a picture has one row, with all of its prompts")
            known.add(path)
            prompts_of(row if with_prompts else {})
            yield {"path": path, **(nested(row) if with_prompts else {})}
        except SamaraError as error:
            raise type(error)(f"{source}: {place}: {error}") from None


def _of_lines(source: str, fs: Any, root: str) -> Iterator[tuple[str, Any]]:
    with fs.open(root, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", {"path": line.rstrip("\r\n")}


def _of_json_lines(source: str, fs: Any, root: str) -> Iterator[tuple[str, Any]]:
    for place, row in _of_lines(source, fs, root):
        try:
            yield place, json.loads(row["path"])
        except ValueError as error:
            raise PromptError(f"{source}: {place}: no JSON: {error}") from None


def _of_parquet(source: str, fs: Any, root: str) -> Iterator[tuple[str, Any]]:
    with fs.open(root, "rb") as file:
        try:
            table = pq.ParquetFile(file)
            names = [name for name in SCHEMA.names if name in table.schema_arrow.names]
        except pa.ArrowException as error:
            raise OptionError(f"{source}: no Parquet: {' '.join(str(error).split())}") from None
        rows = (row for batch in table.iter_batches(columns=names) for row in batch.to_pylist())
        yield from ((f"row {number}", row) for number, row in enumerate(rows))
