"""The actor that segments pictures, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import pyarrow as pa
import ray
from ray.data.block import BlockAccessor

from samara import Embedding, MaskGenerator, Prompt, Segmenter
from samara.errors import OptionError, PromptError

Mode: TypeAlias = Literal["everything", "prompts", "embed"]
Precision: TypeAlias = Literal["auto", "fp32", "bf16", "int8"]

SELECT = (
    *("best", "learned", "score", "whole", "part", "subpart", "largest", "smallest"),
    *("union", "intersection", "weighted", "vote"),
)
MASK = pa.struct(
    {
        "segmentation": pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()}),
        "area": pa.int64(),
        "bbox": pa.list_(pa.int32()),
        "predicted_iou": pa.float32(),
        "stability_score": pa.float32(),
        "point_coords": pa.list_(pa.list_(pa.float64())),
        "crop_box": pa.list_(pa.int32()),
    }
)
PROMPTS = {
    "points": pa.list_(pa.list_(pa.list_(pa.float64()))),
    "labels": pa.list_(pa.list_(pa.int64())),
    "boxes": pa.list_(pa.list_(pa.float64())),
}


def columns(mode: Mode) -> dict[str, Any]:
    """What is known of a picture, and its type."""
    found = {"embedding": pa.large_binary()} if mode == "embed" else {"masks": pa.list_(MASK)}
    return {"width": pa.int32(), "height": pa.int32(), **found, "error": pa.string()}


class Segment:
    """Segments pictures: an actor for :meth:`ray.data.Dataset.map_batches`, which loads the model once.

    A batch has a column of pictures: the bytes of files in ``bytes``, as of ``ray.data.read_binary_files``, or arrays
    in ``image``, as of ``ray.data.read_images``. The result is a table with a row for each, in which ``width``,
    ``height``, ``masks`` (or ``embedding``) and ``error`` take the place of that column. A picture that cannot be
    segmented has an ``error``, and is null otherwise.

    Parameters
    ----------
    mode : {"everything", "prompts", "embed"}, default "everything"
        All masks of a picture; a mask for each prompt in the columns ``points``, ``labels`` and ``boxes``; or the
        embedding alone, as :meth:`samara.Embedding.from_bytes` reads it.
    model : str or path-like, optional
        As of :class:`samara.Segmenter`; a file has to be on every node.
    threads : int, optional
        Threads to work on; without it, as many as Ray gave CPUs to the actor (``num_cpus`` of ``map_batches``), so
        that actors share a node as Ray counts its CPUs.
    precision : {"auto", "fp32", "bf16", "int8"}, default "auto"
        As of :class:`samara.Segmenter`; ``"auto"`` may be another one on another node.
    select : str, default "best"
        Which candidate is the mask of a prompt, by its name in :meth:`samara.Candidates.select`.
    **options
        Of :class:`samara.MaskGenerator`, for the mode ``"everything"``.

    Raises
    ------
    OptionError
        There is no such option, or its value makes no sense.

    Notes
    -----
    ``points`` is a list of prompts, each a list of points ``[x, y]``; ``labels`` a list of prompts, each a list of
    labels, all foreground without it; ``boxes`` a list of boxes, left, top, right and bottom. Prompt *i* is
    ``points[i]`` with ``labels[i]`` and ``boxes[i]``. A single prompt may stand alone: ``points`` as a list of points.

    Examples
    --------
    >>> import ray, samara.ray
    >>> pictures = ray.data.read_binary_files("photos", include_paths=True)  # doctest: +SKIP
    >>> masks = pictures.map_batches(
    ...     samara.ray.Segment,
    ...     fn_constructor_kwargs={"points_per_side": 16},
    ...     batch_size=8,
    ...     num_cpus=2,
    ...     compute=ray.data.ActorPoolStrategy(size=4),
    ... )  # doctest: +SKIP
    >>> masks.write_parquet("masks")  # doctest: +SKIP
    """

    def __init__(
        self,
        mode: Mode = "everything",
        *,
        model: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        precision: Precision = "auto",
        select: str | None = None,
        **options: Any,
    ) -> None:
        if mode not in get_args(Mode):
            raise OptionError(f"mode {mode!r}: expected one of {', '.join(get_args(Mode))}")
        misplaced = [*(options if mode != "everything" else ()), *(["select"] if select and mode != "prompts" else ())]
        if misplaced:
            raise OptionError(f"{misplaced[0]}: is no option of mode {mode!r}")
        if select is not None and select not in SELECT:
            raise OptionError(f"select {select!r}: expected one of {', '.join(SELECT)}")
        self.mode: Mode = mode
        self.segmenter = Segmenter(model, threads=_assigned_cpus() if threads is None else threads, precision=precision)
        self._select = select or "best"
        self._generator = MaskGenerator(self.segmenter, **options) if mode == "everything" else None

    def __call__(self, batch: Any) -> pa.Table:
        """The rows of a batch (a table, or columns by name) with what was found in place of the pictures."""
        table = BlockAccessor.for_block(BlockAccessor.batch_to_block(batch)).to_arrow()
        column = next((name for name in ("bytes", "image") if name in table.column_names), None)
        if column is None:
            raise OptionError(f"batch: columns {', '.join(table.column_names)}, expected bytes or image among them")
        if self.mode == "prompts" and not {"points", "boxes"} & set(table.column_names):
            raise OptionError(f"batch: columns {', '.join(table.column_names)}, expected points or boxes among them")
        prompts = [name for name in PROMPTS if name in table.column_names and self.mode == "prompts"]
        found = [
            self.segment(table[column][i].as_py(), {name: table[name][i].as_py() for name in prompts})
            for i in range(table.num_rows)
        ]
        types = columns(self.mode)
        table = table.drop_columns([name for name in (column, *types) if name in table.column_names])
        for name, kind in types.items():
            table = table.append_column(name, pa.array([row[name] for row in found], kind))
        return table

    def segment(self, image: Any, prompts: Mapping[str, Any]) -> dict[str, Any]:
        """What is found in a picture, by column; an error is found too."""
        row = dict.fromkeys(columns(self.mode))
        try:
            if image is None:
                raise PromptError("image: null")
            asked = prompts_of(prompts) if self.mode == "prompts" else []
            embedding = self.segmenter.embed(image)
            if self.mode == "embed":
                row["embedding"] = embedding.to_bytes()
            elif self._generator is not None:
                row["masks"] = [_record(record) for record in self._generator.generate(embedding)]
            else:
                row["masks"] = self._answers(embedding, asked)
            row["width"], row["height"] = embedding.size
        except Exception as error:  # Whatever is wrong with a picture, the others go on.
            row = {**dict.fromkeys(row), "error": one_line(error)}
        return row

    def _answers(self, embedding: Embedding, prompts: list[Prompt]) -> list[dict[str, Any]]:
        width, height = embedding.size
        masks = []
        for prompt, candidates in zip(prompts, embedding.predict_batch(prompts) if prompts else [], strict=True):
            chosen = candidates.select(self._select)
            candidate = None if chosen.index is None else candidates[chosen.index]
            mask = chosen.mask
            rows, across = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
            left, top, right, bottom = (
                (int(across[0]), int(rows[0]), int(across[-1]), int(rows[-1])) if len(rows) else (0, 0, -1, -1)
            )
            masks.append(
                {
                    "segmentation": chosen.rle,
                    "area": int(mask.sum()),
                    "bbox": [left, top, right + 1 - left, bottom + 1 - top],
                    "predicted_iou": chosen.predicted_iou,
                    "stability_score": None if candidate is None else candidate.stability_score,
                    "point_coords": prompt.points,
                    "crop_box": [0, 0, width, height],
                }
            )
        return masks


def one_line(error: BaseException) -> str:
    """What is wrong, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | OSError) and text else f"{type(error).__name__}: {text}"


def prompts_of(row: Mapping[str, Any]) -> list[Prompt]:
    """The prompts in the columns of a row.

    Raises
    ------
    PromptError
        The columns do not go together, or hold no prompts.
    """
    row = nested(row)
    count = max((len(value) for value in row.values() if value is not None), default=0)
    points, labels, boxes = (row[name] or [None] * count for name in PROMPTS)
    prompts = []
    for i in range(count):
        try:
            prompts.append(Prompt(points[i], labels[i], box=boxes[i]))
        except PromptError as error:
            raise PromptError(f"prompt {i}: {error}") from None
    return prompts


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of prompts as lists with an entry for every prompt, or None where there are none."""
    points, labels, boxes = (_plain(row.get(name)) or None for name in PROMPTS)
    if points and _depth(points) == 2:
        points, labels = [points], [labels] if labels else None
    if labels and not points:
        raise PromptError("labels: there are no points for them")
    depths = {"points": (points, 3), "labels": (labels, 2), "boxes": (boxes, 2)}
    for name, (value, depth) in depths.items():
        if value and _depth(value) != depth:
            raise PromptError(f"{name}: lists of depth {_depth(value)}, expected {depth}: an entry for every prompt")
    for name, value in (("labels", labels), ("boxes", boxes)):
        if points and value and len(value) != len(points):
            raise PromptError(f"{name}: {len(value)} of them for {len(points)} prompts of points")
    return {"points": points, "labels": labels, "boxes": boxes}


def _record(record: Any) -> dict[str, Any]:
    left, top, width, height = record.bbox
    # The official record counts from the first to the last pixel, COCO counts pixels.
    edge = int(record.area > 0)
    return {
        "segmentation": record.rle,
        "area": record.area,
        "bbox": [left, top, width + edge, height + edge],
        "predicted_iou": record.predicted_iou,
        "stability_score": record.stability_score,
        "point_coords": record.point_coords,
        "crop_box": record.crop_box,
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _depth(value: Any) -> int:
    return 1 + _depth(value[0]) if isinstance(value, list) and value else int(isinstance(value, list))


def _assigned_cpus() -> int | None:
    if not ray.is_initialized():
        return None
    context: Any = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return None
    return max(1, int(context.get_assigned_resources().get("CPU", 1)))
