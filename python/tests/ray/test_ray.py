"""Many pictures on several Ray nodes: whatever is killed, nothing is lost, nothing comes twice, and all is as of one
process."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from PIL import Image

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from ray.cluster_utils import Cluster  # noqa: E402

import samara  # noqa: E402
import samara.ray  # noqa: E402
from samara.ray.__main__ import main  # noqa: E402
from samara.ray._output import Output  # noqa: E402
from samara.ray._pictures import pictures  # noqa: E402
from samara.ray._run import Ledger  # noqa: E402

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds processes in /proc")

COFFEE = Path(__file__).parents[3] / "docs" / "coffee.png"
OPTIONS = {"points_per_side": 3, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}
Start: TypeAlias = Callable[..., "subprocess.Popen[str]"]
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]


def shape(i: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A small picture, each another one."""
    y, x = np.mgrid[:48, :64]
    image = np.full((48, 64, 3), (30, 60, 90), dtype=np.uint8)
    image[(x - 8 - 5 * i) ** 2 + (y - 24) ** 2 < 150] = (220, 60, 20 * i)
    return image


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, a file that is none, and one that ends too early."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for i in range(5):
        Image.fromarray(shape(i)).save(folder / "more" / f"{i}.png")
    shutil.copy(COFFEE, folder / "coffee.png")
    (folder / "cut.png").write_bytes(COFFEE.read_bytes()[:5000])
    (folder / "none.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no.jpg")
    return folder


@pytest.fixture(scope="session")
def expected(photos: Path) -> dict[str, Any]:
    """The masks of every picture, found by one process."""
    generator = samara.MaskGenerator(samara.Segmenter(), **OPTIONS)  # type: ignore[arg-type]
    paths = [photos / "coffee.png", *sorted((photos / "more").iterdir())]
    return {str(path): [_row(record) for record in generator.generate(path)] for path in paths}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes with one each."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    small = {"object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **small)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def _row(record: samara.MaskRecord) -> dict[str, Any]:
    left, top, right, bottom = record.bbox
    return {
        "segmentation": record.rle,
        "area": record.area,
        "bbox": [left, top, right + 1, bottom + 1],
        "predicted_iou": np.float32(record.predicted_iou),
        "stability_score": np.float32(record.stability_score),
        "point_coords": record.point_coords,
        "crop_box": record.crop_box,
    }


@pytest.fixture
def start(cluster: Any) -> Iterator[Start]:
    """Starts the command on the cluster; none outlives its test."""
    started = []
    # Where tests run in the background of a script the signal is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(photos: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "samara.ray", str(photos), str(output), *flags]
        command += FLAGS if "--mode=prompts" not in flags else []
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        started.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and the last line."""
    out, err = process.communicate(timeout=180)
    return process.returncode, (err if process.returncode else out).strip().splitlines()[-1]


def wait(what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Waits for something to be true while the command runs."""
    until = time.monotonic() + 120
    while not (found := what()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    return found


def parts(output: Path) -> list[Path]:
    """The files of parts that are there."""
    return sorted((output / "parts").glob("*"))


def actors(node: Any) -> list[int]:
    """The processes with a model on a node."""
    (raylet,) = node.all_processes["raylet"]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == raylet.process.pid and b"ray::MapWorker" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return found


def check(output: Path, photos: Path, expected: dict[str, Any]) -> None:
    """Every picture is there once, with the masks of one process."""
    table = pq.read_table(output / "parts")
    assert sorted(table["path"].to_pylist()) == sorted(expected)
    for row in table.to_pylist():
        assert row["masks"] == expected[row["path"]], row["path"]
        assert (row["height"], row["width"]) == np.asarray(Image.open(row["path"])).shape[:2]
    errors = pq.read_table(output / "errors").to_pylist()
    assert {row["path"] for row in errors} == {str(photos / "cut.png"), str(photos / "none.jpg")}
    assert len(errors) == 2 and all(row["error"].startswith("image: ") for row in errors)
    assert not (output / "unfinished").exists()


def test_an_actor_is_killed(cluster: Any, start: Start, photos: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    process = start(photos, tmp_path, "--part-size=2")
    wait(lambda: parts(tmp_path), process)
    (killed, *_) = [pid for node in cluster.worker_nodes for pid in actors(node)]
    os.kill(killed, signal.SIGKILL)
    assert len(parts(tmp_path)) < 4
    assert end(process) == (1, f"error: 2 failed; {tmp_path}/errors says why")
    assert len(parts(tmp_path)) == 4
    check(tmp_path, photos, expected)


def test_a_node_is_removed(cluster: Any, start: Start, photos: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False)
    process = start(photos, tmp_path, "--part-size=1", "--actors=3")
    wait(lambda: parts(tmp_path) and actors(node), process)
    cluster.remove_node(node, allow_graceful=False)
    assert len(parts(tmp_path)) < 8
    assert end(process) == (1, f"error: 2 failed; {tmp_path}/errors says why")
    check(tmp_path, photos, expected)


def test_the_driver_is_killed(
    cluster: Any, start: Start, photos: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    process = start(photos, tmp_path, "--part-size=1")
    wait(lambda: len(parts(tmp_path)) > 2, process)
    process.kill()
    end(process)
    # What the actors of the dead driver still finish counts.
    wait_until = time.monotonic() + 60
    while any(actors(node) for node in cluster.worker_nodes) and time.monotonic() < wait_until:
        time.sleep(0.1)
    good = [part for part in parts(tmp_path) if not (tmp_path / "errors" / part.name).exists()]
    before = {part: part.stat().st_mtime_ns for part in good}
    assert 1 <= len(before) < 6
    assert end(start(photos, tmp_path, "--part-size=3"))[0] == 1
    assert {part: part.stat().st_mtime_ns for part in before} == before
    check(tmp_path, photos, expected)


def test_ctrl_c_and_pictures_that_were_repaired(
    start: Start, photos: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    # Most of the pictures are left when the first part is there.
    process = start(folder, output, "--part-size=1")
    wait(lambda: parts(output), process)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, f"stopped; the same command goes on with what {output} has")
    assert end(start(folder, output, "--adaptive")) == (
        1,
        f"error: {output}: that run has adaptive the default, and this one true",
    )
    for name in ("cut.png", "none.jpg"):
        shutil.copy(COFFEE, folder / name)
    Image.fromarray(shape(0)).save(folder / "new.png")
    assert end(start(folder, output)) == (0, f"9 of 9 pictures are in {output}/parts")
    assert not list((output / "errors").iterdir())
    rows = pq.read_table(output / "parts").to_pylist()
    same = {"cut.png": "coffee.png", "none.jpg": "coffee.png", "new.png": "more/0.png"}
    found = {os.path.relpath(row["path"], folder): row["masks"] for row in rows}
    assert len(found) == len(rows) == 9
    for name, masks in found.items():
        assert masks == expected[str(photos / same.get(name, name))]


def test_a_picture_that_ends_its_process_is_an_error(cluster: Any, start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    os.mkfifo(folder / "a.png")
    Image.fromarray(shape(3)).save(folder / "b.png")
    box = [10, 11, 36, 37]
    rows = [{"path": f"photos/{name}.png", "boxes": [box]} for name in ("a", "b")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    output = tmp_path / "output"
    process = start(tmp_path / "list.jsonl", output, "--actors=1", "--mode=prompts")

    def opened() -> int | None:
        try:
            return os.open(folder / "a.png", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return None

    for _ in range(3):
        # While the pipe is open on this side, the actor waits for its end.
        pipe = wait(opened, process)
        time.sleep(0.5)
        (killed,) = [pid for node in cluster.worker_nodes for pid in actors(node)]
        os.kill(killed, signal.SIGKILL)
        wait(lambda pid=killed: not Path(f"/proc/{pid}").exists(), process)
        os.close(pipe)
    assert end(process) == (1, f"error: 1 failed; {output}/errors says why")
    # The last actor still waits for the pipe, and ends.
    until = time.monotonic() + 60
    while left := [pid for node in cluster.worker_nodes for pid in actors(node)]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
    (error,) = pq.read_table(output / "errors").to_pylist()
    assert error["path"].endswith("a.png") and error["error"].startswith("the process ended 3 times at this picture")
    (row,) = pq.read_table(output / "parts").to_pylist()
    answer = samara.Segmenter().embed(shape(3)).predict(box=box).best
    assert row["path"] == str(folder / "b.png") and [m["segmentation"] for m in row["masks"]] == [answer.rle]


@pytest.fixture
def driver(cluster: Any) -> Iterator[None]:
    ray.init(address=cluster.address, log_to_driver=False)
    yield
    ray.shutdown()


def segmented(dataset: Any, **options: Any) -> dict[Any, dict[str, Any]]:
    """Rows by path or id."""
    result = dataset.map_batches(
        samara.ray.Segment,
        fn_constructor_kwargs=options,
        batch_size=4,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    return {row.get("path", row.get("id")): row for row in result.take_all()}


@pytest.mark.usefixtures("driver")
def test_the_actor_in_a_pipeline(photos: Path, expected: dict[str, Any]) -> None:
    files = [str(photos / name) for name in ("cut.png", "coffee.png", "more/3.png")]
    found = segmented(ray.data.read_binary_files(files, include_paths=True), **OPTIONS)
    assert list(found[files[0]]) == ["path", "width", "height", "masks", "error"]
    assert found[files[0]]["masks"] is None and found[files[0]]["error"].startswith("image: the file is truncated")
    for path in files[1:]:
        assert found[path]["masks"] == expected[path] and found[path]["error"] is None

    image = shape(3)
    embedding = samara.Segmenter().embed(image)
    rows = [
        {"id": "click", "image": image, "points": [[[23.0, 24.0]]], "labels": [[1]], "boxes": None},
        {"id": "outside", "image": image, "points": [[[100.0, 24.0]]], "labels": None, "boxes": None},
        {"id": "boxes", "image": image, "points": None, "labels": None, "boxes": [[10, 11, 36, 37], [0, 0, 20, 20]]},
        {"id": "nothing", "image": image, "points": None, "labels": None, "boxes": []},
    ]
    found = segmented(ray.data.from_items(rows), mode="prompts")
    assert "image" not in found["click"] and (found["click"]["width"], found["click"]["height"]) == (64, 48)
    for name, prompts in {
        "click": [samara.Prompt([23, 24])],
        "boxes": [samara.Prompt(box=box) for box in rows[2]["boxes"]],  # type: ignore[union-attr]
        "nothing": [],
    }.items():
        answers = [embedding.predict_batch([prompt])[0].best for prompt in prompts]
        masks = found[name]["masks"]
        assert [mask["segmentation"] for mask in masks] == [answer.rle for answer in answers]
        assert [mask["area"] for mask in masks] == [answer.area for answer in answers]
        assert [mask["bbox"] for mask in masks] == [answer.bbox for answer in answers]
        assert [mask["predicted_iou"] for mask in masks] == [np.float32(answer.predicted_iou) for answer in answers]
        assert found[name]["error"] is None
    assert found["outside"]["error"] == "point 100,24 lies outside the image of 64×48 pixels"

    arrays = segmented(ray.data.from_items([{"id": 0, "image": image}]), mode="embed")
    saved = samara.Embedding.from_bytes(arrays[0]["embedding"], samara.Segmenter())
    assert (saved.features == embedding.features).all()


@pytest.mark.usefixtures("driver")
def test_an_actor_has_the_threads_of_its_cpus() -> None:
    for options, threads in (({}, 1), ({"threads": 2}, 2)):
        actor = ray.remote(samara.ray.Segment).options(num_cpus=1).remote(**options)
        model = pickle.dumps(ray.get(actor.__ray_call__.remote(lambda self: self.segmenter)))
        assert pickle.loads(model).__reduce__()[1][1]["threads"] == threads
        ray.kill(actor)


def test_bad_options_are_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").touch()
    output = tmp_path / "output"
    for arguments, line in (
        ([photos, tmp_path / "full"], "holds something that is no run"),
        ([tmp_path / "full", output], "no pictures there"),
        ([photos / "more" / "*.jpg", output], "no pictures there"),
        ([photos, output, "--points-per-side=0"], "points_per_side 0"),
        ([photos, output, "--mode=embed", "--adaptive"], "adaptive: is no option of mode 'embed'"),
        ([photos, output, "--select=whole"], "select: is no option of mode 'everything'"),
        ([photos, output, "--mode=prompts"], "prompts come from a list of pictures"),
        ([photos, output, "--model=nope"], "nope: neither a file nor the name of a released model"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        error = capsys.readouterr().err
        assert line in error and error.startswith("error: ") and error.count("\n") == 1
    assert not output.exists()
    for options, line in (({"mode": "x"}, "mode 'x'"), ({"mode": "prompts", "select": "x"}, "select 'x'")):
        with pytest.raises(samara.OptionError, match=line):
            samara.ray.Segment(**options)  # type: ignore[arg-type]


def test_lists_of_pictures(photos: Path, tmp_path: Path) -> None:
    assert pictures(str(photos), False)["path"].to_pylist() == sorted(
        str(path) for path in photos.rglob("*") if path.suffix in (".png", ".jpg")
    )
    assert pictures(f"{photos}/more/[0-2].png", False).num_rows == 3
    assert pictures(str(photos / "coffee.png"), False)["path"].to_pylist() == [str(photos / "coffee.png")]
    text = tmp_path / "list.txt"
    text.write_text("a.jpg\n\n/b/c.jpg\ns3://bucket/d.jpg\n")
    assert pictures(str(text), False)["path"].to_pylist() == [f"{tmp_path}/a.jpg", "/b/c.jpg", "s3://bucket/d.jpg"]

    rows: list[dict[str, Any]] = [
        {"path": "a.jpg", "other": 1, "points": [[1, 2], [3, 4]], "labels": [1, 0], "boxes": None},
        {"path": "b.jpg", "other": 2, "boxes": [[1, 2, 3, 4]]},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    for name in ("list.jsonl", "list.parquet"):
        assert pictures(str(tmp_path / name), True).to_pylist() == [
            {"path": f"{tmp_path}/a.jpg", "points": [[[1, 2], [3, 4]]], "labels": [[1, 0]], "boxes": None},
            {"path": f"{tmp_path}/b.jpg", "points": None, "labels": None, "boxes": [[1, 2, 3, 4]]},
        ]
    for line, why in (
        ("{", "line 1: no JSON"),
        ("[]", "line 1: no path"),
        ('{"path": 3}', "line 1: no path"),
        ('{"path": "a"}\n{"path": "a"}', "line 2: .*a comes twice"),
        ('{"path": "a", "boxes": [1, 2, 3, 4]}', "line 1: boxes: lists of depth 1, expected 2"),
        ('{"path": "a", "boxes": [[1, 2, 3]]}', "line 1: prompt 0: box"),
        ('{"path": "a", "points": [[[1, 2]]], "boxes": [[1, 2, 3, 4], [1, 2, 3, 4]]}', "boxes: 2 of them for 1"),
        ('{"path": "a", "points": [[1, 2]], "labels": [1, 0]}', "line 1: prompt 0: "),
        ('{"path": "a", "labels": [1]}', "line 1: labels: there are no points"),
        ('{"path": "a", "points": "x"}', "line 1: points: "),
        ('{"path": "a", "boxes": [[1, 2, 3, "x"]]}', "line 1: prompt 0: "),
    ):
        (tmp_path / "bad.jsonl").write_text(line)
        with pytest.raises(samara.SamaraError, match=why) as raised:
            pictures(str(tmp_path / "bad.jsonl"), True)
        assert "\n" not in str(raised.value) and "bad.jsonl" in str(raised.value)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(samara.OptionError, match="bad.parquet: no Parquet"):
        pictures(str(tmp_path / "bad.parquet"), True)


@pytest.mark.parametrize("url", ["memory://run", "{}/run"])
def test_a_part_appears_whole_or_not_at_all(url: str, tmp_path: Path) -> None:
    output = Output(url.format(tmp_path))
    output.begin({"model": "lite", "options": {}})
    with pytest.raises(samara.OptionError, match='that run has model "lite", and this one "other"'):
        output.begin({"model": "other", "options": {}})
    with pytest.raises(samara.OptionError, match="that run has adaptive the default, and this one true"):
        output.begin({"model": "lite", "options": {"adaptive": True}})
    listed = pa.table({"path": ["a", "b", "c"], **{name: [None] * 3 for name in ("points", "labels")}})
    listed = listed.append_column("boxes", [[None, [[1.0, 2.0, 3.0, 4.0]], None]])
    schema = pictures.__globals__["SCHEMA"]
    assert output.plan(listed.cast(schema), 2) == [2, 1]
    assert output.plan(listed.cast(schema), 7) == [2, 1]
    assert [row["path"] for row in output.part(0)] == ["a", "b"]
    with pytest.raises(samara.OptionError, match="b: has other prompts"):
        output.plan(listed.set_column(3, "boxes", pa.nulls(3)).cast(schema), 2)

    row = {"width": 1, "height": 1, "masks": [], "error": None}
    bad = {"error": "why"}

    def interrupted() -> Iterator[dict[str, Any]]:
        yield {"path": "a", **row}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.write(0, "everything", interrupted())
    assert output.done() == set() and output.paths(0) == set()
    assert output.write(0, "everything", [{"path": "a", **bad}, {"path": "b", **row}]) == 1
    assert output.done() == set() and output.paths(0) == {"b"}
    assert output.write(0, "everything", [{"path": "a", **row}]) == 0
    assert output.done() == {0} and output.paths(0) == {"a", "b"}
    output.clean()
    assert not output.fs.exists(f"{output.root}/unfinished")


def test_a_ledger_counts_what_was_begun_in_vain() -> None:
    ledger = Ledger()
    assert [ledger.begin(4, 0), ledger.begin(4, 0)] == [1, 2]
    ledger.finish(4, 0)
    assert [ledger.begin(4, 0), ledger.begin(4, 1), ledger.begin(5, 1)] == [1, 1, 1]
    assert ledger.finished() == 1
