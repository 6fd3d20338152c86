"""The native API: images in any form, prompts, candidates, everything, videos, quality, attention."""

from __future__ import annotations

import contextlib
import gc
import http.server
import importlib
import io
import multiprocessing
import pickle
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import disc, iou, picture
from PIL import Image

import samara


def test_a_click_finds_the_disc(embedding: samara.Embedding) -> None:
    candidates = embedding.predict([120, 80])
    assert len(candidates) == 3 and candidates.masks.shape == (3, 160, 240)
    assert iou(candidates.best.mask, disc()) > 0.95
    assert [c.index for c in candidates[1:]] == [1, 2] and [c.index for c in candidates[::-1]] == [2, 1, 0]
    for i, candidate in enumerate(candidates):
        assert candidate.index == i
        assert (candidate.mask == candidates.masks[i]).all()
        assert candidate.area == candidate.mask.sum()
        assert (samara.decode_rle(candidate.rle) == candidate.mask).all()
        x, y, w, h = candidate.bbox
        assert candidate.mask[y : y + h, x : x + w].sum() == candidate.area
        assert candidate.granularity in ("whole", "part", "subpart")
        assert candidates.predicted_ious[i] == pytest.approx(candidate.predicted_iou)
    assert candidates[-1].index == 2
    with pytest.raises(IndexError, match="candidate 3 of 3"):
        candidates[3]
    single = embedding.predict(box=[80, 40, 160, 120], single=True)
    assert len(single) == 1 and iou(single[0].mask, disc()) > 0.95


def test_prompts_of_any_kind_are_one_answer(embedding: samara.Embedding) -> None:
    one = embedding.predict([[120, 80]], [1])
    for same in (
        embedding.predict(np.array([120, 80], dtype=np.int64)),
        embedding.predict(samara.Prompt([120.0, 80.0])),
        embedding.predict_batch([samara.Prompt((120, 80)), samara.Prompt([10, 10])])[0],
        embedding.predict(np.array([[80.0, 120.0]])[:, ::-1], np.array([True])),
    ):
        assert (same.masks == one.masks).all()
    selection = one.select("best")
    refined = embedding.predict([[150, 80], [200, 20]], [1, 0], mask=selection)
    assert iou(refined.best.mask, disc()) > 0.95
    assert samara.encode_rle(selection) == selection.rle
    for mask in (disc(), disc().astype(np.uint8) * 255, samara.encode_rle(disc()), one[0].low_res_logits):
        assert len(embedding.predict([120, 80], mask=mask)) == 3
    assert repr(samara.Prompt([1, 2], box=[1, 2, 3, 4])) == "Prompt(points=[[1, 2]], labels=[1], box=[1, 2, 3, 4])"


def test_images_of_any_kind_are_one_image(segmenter: samara.Segmenter, tmp_path: Path) -> None:
    image = picture()
    expected = segmenter.embed(image).features
    Image.fromarray(image).save(tmp_path / "a.png")
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    read_only = image.copy()
    read_only.flags.writeable = False
    opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    for same in (
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        file.getvalue(),
        Image.fromarray(image),
        Image.fromarray(opaque),
        opaque,
        np.asfortranarray(image),
        image[::-1, ::-1].copy()[::-1, ::-1],
        read_only,
        image.tolist() and np.array(image.tolist(), dtype=np.uint8),
    ):
        assert (segmenter.embed(same).features == expected).all()
    grey = segmenter.embed(image[..., 0]).features
    deep = Image.fromarray(image[..., 0].astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    for same in (np.repeat(image[..., :1], 3, axis=2), Image.fromarray(image[..., 0]), deep, tmp_path / "deep.png"):
        assert (segmenter.embed(same).features == grey).all()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((3, 40, 50), np.uint8), "channels, height, width"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros((2, 2, 2, 2), np.uint8), "shape"),
        (b"no image", "not an image"),
        (None, "object"),
        (7, "int64"),
        (io.BytesIO(b"a file"), "an open file"),
        (bytearray(b"a file"), "bytearray"),
        (Image.new("F", (4, 4)), "mode 'F'"),
    ],
)
def test_what_is_no_image_is_refused(segmenter: samara.Segmenter, image: object, words: str) -> None:
    with pytest.raises(samara.ImageError, match=words) as raised:
        segmenter.embed(image)
    assert "\n" not in str(raised.value)


def test_what_is_no_prompt_is_refused(embedding: samara.Embedding) -> None:
    nan, inf = float("nan"), float("inf")
    for arguments in (
        {},
        {"points": [1000, 10]},
        {"points": [nan, 10]},
        {"points": [[inf, 10]]},
        {"points": "x"},
        {"points": [[1, 2, 3]]},
        {"points": [[[1, 2]]]},
        {"points": [[1, 2], [3]]},
        {"points": [[1, 2]], "labels": [1, 0]},
        {"points": [[1, 2]], "labels": [2]},
        {"points": [[1, 2]], "labels": ["a"]},
        {"box": [1, 2, 3]},
        {"box": [5, 5, 5, 9]},
        {"box": [50, 60, 20, 30]},
        {"points": [3 + 1j, 3]},
        {"points": ["3", "3"]},
        {"points": [None, 3]},
        {"points": [2**70, 3]},
        {"points": [[1, 2, 30, 40]]},
        {"mask": disc()[:80]},
        {"mask": np.ascontiguousarray(disc().T)},
        {"mask": samara.encode_rle(np.ones((5, 5), bool))},
        {"box": [nan, 1, 2, 3]},
        {"mask": np.zeros((160, 240), bool)},
        {"mask": np.zeros((160, 240, 3), bool)},
        {"mask": np.arange(38400).reshape(160, 240)},
        {"mask": np.ones((10, 20), np.float32)},
        {"mask": np.full((256, 256), nan, np.float32)},
        {"mask": np.ones((64, 64), np.float32)},
        {"mask": {"size": [2, 2], "counts": [5]}},
        {"mask": {"size": [2, 2]}},
        {"points": np.empty((0, 2))},
    ):
        with pytest.raises(samara.PromptError) as raised:
            embedding.predict(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 300
    for arguments in ({"intent": "x"}, {"zoom": "x"}):
        with pytest.raises(samara.OptionError):
            embedding.predict([1, 2], **arguments)  # type: ignore[arg-type]
    with pytest.raises(samara.OptionError):
        embedding.predict([120, 80]).select("x")


def test_models_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nope"):
        samara.Segmenter("nope")
    with pytest.raises(FileNotFoundError, match=r"samara\.download\('sam-vit-b'\)"):
        samara.Segmenter("sam-vit-b")
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    with pytest.raises(samara.CheckpointError, match="a.pth"):
        samara.Segmenter(tmp_path / "a.pth")
    for threads in (0, -1):
        with pytest.raises(samara.OptionError, match="threads: at least one"):
            samara.Segmenter(threads=threads)


def test_precisions_are_told_and_kept() -> None:
    assert samara.Segmenter().precision in ("fp32", "bf16")
    exact = samara.Segmenter(precision="fp32").embed(picture())
    assert exact.precision == "fp32"
    rounded = samara.Segmenter(precision="bf16")
    embedding = rounded.embed(picture())
    again = pickle.loads(pickle.dumps(embedding))
    assert [embedding.precision, again.precision, again.segmenter.precision] == ["bf16"] * 3
    error = np.linalg.norm(embedding.features - exact.features) / np.linalg.norm(exact.features)
    assert 1e-4 < error < 0.05
    assert rounded.fingerprint == exact.segmenter.fingerprint
    with pytest.raises(samara.OptionError, match="fp8"):
        samara.Segmenter(precision="fp8")  # type: ignore[arg-type]


class Mirror(http.server.BaseHTTPRequestHandler):
    """Has files as large as SAM 2.1 tiny, of zeros."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "156008466")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(1560):
                self.wfile.write(bytes(100_000))

    def log_message(self, *args: object) -> None:
        """Says nothing."""


def test_downloads_are_told_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(samara.OptionError, match="nope"):
        samara.download("nope")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SAMARA_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("SAMARA_HOME", str(tmp_path))
    with pytest.raises(samara.CheckpointError, match="^http.*not the released file$"):
        samara.download("sam-vit-b")
    shares: list[float] = []

    def stop(share: float) -> None:
        shares.append(share)
        if share > 0.01:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        samara.download("sam2.1-tiny", progress=stop)
    server.shutdown()
    assert shares == sorted(shares) and shares[-1] < 0.1
    assert [path.suffix for path in tmp_path.glob("models/*.part")] == [".part"]


def test_a_prompt_says_all(embedding: samara.Embedding) -> None:
    prompt = samara.Prompt([120, 80])
    for more in ({"box": [1, 2, 30, 40]}, {"labels": [1]}, {"mask": disc()}, {"single": True}):
        with pytest.raises(samara.PromptError, match=f"{next(iter(more))}.*part of the Prompt"):
            embedding.predict(prompt, **more)  # type: ignore[arg-type]
    batch = embedding.predict_batch([prompt, [120, 80], np.array([[120, 80]])])
    assert all((answer.masks == batch[0].masks).all() for answer in batch)
    best = embedding.predict(prompt).best
    corrected = embedding.predict([[120, 80], [118, 82]], mask=best)
    assert (
        corrected.masks == embedding.predict([[120, 80], [118, 82]], mask=best.low_res_logits, single=True).masks
    ).all()
    assert (samara.quality.assess(embedding, [best])[0].refined.mask == best.mask).mean() > 0.99
    with pytest.raises(samara.ImageError, match="one image, expected a list"):
        embedding.segmenter.embed_batch("a.jpg")


def test_a_forked_process_works_on(embedding: samara.Embedding) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    expected = embedding.predict([120, 80]).masks
    pipe, end = multiprocessing.Pipe()

    def child() -> None:
        again = embedding.segmenter.embed(picture()).predict([120, 80])
        end.send((embedding.predict([120, 80]).masks == expected).all() and (again.masks == expected).all())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert pipe.poll(60), "it hangs"
    assert pipe.recv()
    process.join()


def test_sub_interpreters_are_refused() -> None:
    try:
        interpreters = importlib.import_module("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
    except ImportError:
        pytest.skip("this Python has none")
    one = interpreters.create()
    code = f"import sys; sys.path[:] = {sys.path!r}; import samara"
    try:
        answer = interpreters.run_string(one, code)
    except interpreters.RunFailedError as error:
        answer = error
    finally:
        interpreters.destroy(one)
    assert "does not support loading in subinterpreters" in str(answer)


def test_embeddings_are_saved_and_pickled(embedding: samara.Embedding, tmp_path: Path) -> None:
    expected = embedding.predict([120, 80]).masks
    embedding.save(tmp_path / "a.safetensors")
    for other in (
        samara.Embedding.load(tmp_path / "a.safetensors", embedding.segmenter),
        pickle.loads(pickle.dumps(embedding)),
    ):
        assert (other.predict([120, 80]).masks == expected).all()
        with pytest.raises(samara.OptionError, match="no image"):
            other.predict([120, 80], zoom="auto")
    with pytest.raises(samara.SavedError):
        samara.Embedding.from_bytes(b"no embedding", embedding.segmenter)
    size = b'original\\":[240,160]'
    huge = embedding.to_bytes().replace(size, b'original\\":[24' + b"0" * 8 + b",16" + b"0" * 8 + b"]")
    length = int.from_bytes(huge[:8], "little") + len(huge) - len(embedding.to_bytes())
    assert length > int.from_bytes(huge[:8], "little")
    with pytest.raises(samara.SamaraError, match="31 pixels|2³¹ pixels"):
        samara.Embedding.from_bytes(length.to_bytes(8, "little") + huge[8:], embedding.segmenter)
    with pytest.raises(samara.SavedError, match="nope"):
        samara.Embedding.load(tmp_path / "nope", embedding.segmenter)


def test_everything_and_its_tree(segmenter: samara.Segmenter, embedding: samara.Embedding) -> None:
    generator = samara.MaskGenerator(segmenter, points_per_side=6)
    shares: list[float] = []
    records = generator.generate(embedding, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert any(iou(record.segmentation, disc()) > 0.95 for record in records)
    again = generator.generate(picture())
    assert [r.rle for r in again] == [r.rle for r in records]
    for record in records:
        official = dict(record)
        assert set(official) == {
            "segmentation",
            "area",
            "bbox",
            "predicted_iou",
            "point_coords",
            "stability_score",
            "crop_box",
        }
        assert official["area"] == official["segmentation"].sum()
        assert (record.mask == record.segmentation).all()
        assert len(record.polygons()) >= 1
        with pytest.raises(samara.OptionError, match="^tolerance"):
            record.polygons(float("nan"))
        assert list(record) == list(record.keys()) == list(official) and len(record) == 7
        assert "area" in record and "score" not in record
        assert record.get("area") == dict(record.items())["area"] == official["area"]
        assert record.get("score") is None and record.get("score", 1) == 1
    tree = samara.Hierarchy(records)
    assert len(tree) == len(records)
    for i, node in enumerate(tree):
        assert all(tree[child].parent == i for child in node.children)
    for options in ({"points": 3}, {"points_per_side": 0}, {"box_nms_thresh": "x"}, {"pred_iou_thresh": float("nan")}):
        with pytest.raises(samara.OptionError):
            samara.MaskGenerator(segmenter, **options)  # type: ignore[arg-type]
    with pytest.raises(samara.OptionError, match="^points: unknown option, expected one of"):
        samara.MaskGenerator(segmenter, points=3)  # type: ignore[call-arg]
    with pytest.raises(samara.OptionError, match="^points_per_side: .*expected"):
        samara.MaskGenerator(segmenter, crop_n_layers=1, points_per_side=-3)
    grid = np.array([[0.5, 0.5]])
    one = samara.MaskGenerator(segmenter, point_grids=[grid], pred_iou_thresh=0, stability_score_thresh=0)
    assert all(record.point_coords == [[120.0, 80.0]] for record in one.generate(embedding))


def test_progress_stops_work(segmenter: samara.Segmenter, embedding: samara.Embedding) -> None:
    class Stop(Exception):
        pass

    shares: list[float] = []

    def stop(share: float) -> None:
        raise Stop

    generator = samara.MaskGenerator(segmenter, points_per_side=16)
    with pytest.raises(Stop):
        generator.generate(embedding, progress=stop)
    with pytest.raises(Stop):
        segmenter.embed_batch([picture()], progress=stop)
    with pytest.raises(Stop):
        embedding.predict_batch([[120, 80]], progress=stop)
    assert len(embedding.predict_batch([[120, 80]] * 65, progress=shares.append)) == 65
    assert shares == [64 / 65, 1.0]
    with pytest.raises(samara.PromptError, match="prompt 70.*999"):
        embedding.predict_batch([*[[120, 80]] * 70, [999, 80]], progress=stop)

    class Bar:
        total = 50
        done = 0.0

        def update(self, n: float) -> None:
            self.done += n

    bar = Bar()
    assert len(segmenter.embed_batch([picture(), picture()], progress=bar)) == 2
    assert bar.done == pytest.approx(50)


def test_other_threads_run_meanwhile(segmenter: samara.Segmenter, embedding: samara.Embedding) -> None:
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    samara.MaskGenerator(segmenter, points_per_side=8).generate(embedding)
    done.set()
    thread.join()
    assert ticks > 20
    # One model may be asked from several threads at once.
    answers: list[samara.Candidates] = []
    threads = [threading.Thread(target=lambda: answers.append(embedding.predict([120, 80]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and all((a.masks == answers[0].masks).all() for a in answers)


def test_videos(segmenter: samara.Segmenter, tmp_path: Path) -> None:
    frames = [np.roll(picture(), 6 * i, axis=1) for i in range(4)]
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    session = samara.VideoSession(segmenter, tmp_path)
    assert (session.size, session.frame_count, session.frame_rate) == ((240, 160), 4, None)
    with pytest.raises(samara.VideoError):
        session.track(0)
    first = session.prompt(0, 7, [120, 80])
    assert first.object == 7 and first.is_present and iou(first.mask, disc()) > 0.95
    assert ((first.logits > 0) == first.mask).all()
    found = list(session.propagate())
    assert [frame.index for frame in found] == [0, 1, 2, 3]
    for i, frame in enumerate(found):
        assert iou(frame.masks[7], np.roll(disc(), 6 * i, axis=1)) > 0.9, i
    session.save(tmp_path / "session.safetensors")
    loaded = samara.VideoSession.load(tmp_path / "session.safetensors", segmenter, tmp_path)
    assert loaded.objects == [7]
    back = list(loaded.propagate(3, 1, direction="backward"))
    assert [frame.index for frame in back] == [3, 2, 1]
    assert list(loaded.propagate(3, 1)) == [] == list(loaded.propagate(1, 3, direction="backward"))
    with pytest.raises(samara.VideoError, match="0.png: is an image"):
        samara.VideoSession(segmenter, tmp_path / "0.png")
    with pytest.raises(samara.PromptError, match="mask: 80 rows and 240 columns"):
        session.prompt(0, 7, mask=disc()[:80])
    with pytest.raises(samara.VideoError, match="frame 9"):
        session.prompt(9, 7, [1, 1])
    session.remove(7)
    with pytest.raises(samara.VideoError):
        session.remove(7)

    with pytest.raises(samara.VideoError):
        session.known(0, 7)
    arrays = samara.VideoSession(segmenter, frames)
    assert (arrays.size, arrays.frame_count) == ((240, 160), 4)
    arrays.prompt(0, 7, [120, 80])
    same = list(arrays.propagate())
    assert all((a.masks[7] == b.masks[7]).all() for a, b in zip(same, found, strict=True))
    known = arrays.known(2, 7)
    assert known is not None and (known.mask == found[2].masks[7]).all() and arrays.known(9, 7) is None
    arrays.clear_prompt(0, 7)
    with pytest.raises(samara.VideoError, match="object 7 has no prompt"):
        arrays.track(1)
    for video in ([], 5, [np.zeros((2, 2))], frames[0]):
        with pytest.raises(samara.SamaraError):
            samara.VideoSession(segmenter, video)  # type: ignore[arg-type]

    camera = samara.VideoSession(segmenter)
    with pytest.raises(samara.VideoError, match="give the image"):
        camera.prompt(0, 1, [120, 80])
    camera.prompt(0, 1, [120, 80], image=frames[0])
    streamed = [camera.track(i, frame) for i, frame in enumerate(frames)]
    assert all((a.masks[1] == b.masks[7]).all() for a, b in zip(streamed, found, strict=True))
    with pytest.raises(samara.VideoError, match="no video"):
        camera.propagate()


def test_quality_of_a_mask_from_elsewhere(embedding: samara.Embedding) -> None:
    shifted = np.roll(disc(), 25, axis=1)
    good, bad = samara.quality.assess(embedding, [disc(), shifted])
    assert good.estimate > bad.estimate + 0.1
    assert iou(good.refined.mask, disc()) > 0.95
    with pytest.raises(samara.PromptError):
        samara.quality.assess(embedding, [np.zeros((160, 240), bool)])
    with pytest.raises(samara.PromptError, match="mask: 5 rows and 5 columns, the image has 160 and 240"):
        samara.quality.assess(embedding, [np.ones((5, 5), bool)])
    with pytest.raises(samara.PromptError, match="boxes: 1 of them for 2 masks"):
        samara.quality.assess(embedding, [disc(), disc()], boxes=[[80, 40, 160, 120]])


def test_attention_looks_at_a_level(embedding: samara.Embedding) -> None:
    heat = disc().reshape(20, 8, 30, 8).mean(axis=(1, 3))
    ((found,),) = samara.attention.levels(embedding, [samara.Prompt([120, 80])], heat)
    best = embedding.predict([120, 80])[found["best"]]
    assert iou(best.mask, disc()) > 0.9
    assert found["candidates"][found["best"]]["correlation"] > 0.8
    with pytest.raises(samara.PromptError):
        samara.attention.levels(embedding, [samara.Prompt([120, 80])], -heat)


def test_pictures_show_themselves(embedding: samara.Embedding) -> None:
    candidates = embedding.predict([120, 80])
    for shown in (candidates, candidates.best, candidates.select("whole")):
        png = shown._repr_png_()
        assert png is not None
        assert Image.open(io.BytesIO(png)).size == (240, 160)


def test_memory_is_given_back(embedding: samara.Embedding) -> None:
    resource = pytest.importorskip("resource")
    for _ in range(30):
        embedding.predict([120, 80])
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(150):
        embedding.predict([120, 80]).masks  # noqa: B018
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 60_000, f"{grown} kB"
