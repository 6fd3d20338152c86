"""Objects followed through videos."""

from __future__ import annotations

import operator
import os
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from samara import ObjectMask, Segmenter, VideoError, VideoSession
from samara.compat._clicks import Clicks, boxes_of, clicks_of, to_numpy_or_none
from samara.compat._resize import resize_values
from samara.compat._tensors import Array, cpu, is_tensor, tensor_if_loaded

from .modeling.sam2_base import NO_OBJ_SCORE, SAM2Base

SHORT = 16
"""Videos of fewer frames than this are seen otherwise by the model."""
SUPPRESSED = -10.0
"""The highest logit of a pixel that another object takes."""

Result = tuple[int, list[Any], Array]
"""Number of the frame, the objects, and their logits ``[n, 1, height, width]``."""
Predictor = TypeVar("Predictor", bound="SAM2VideoPredictor")


class FrameError(VideoError, IndexError):
    """A frame that the video does not have."""


@dataclass
class Track:
    """One object: what was asked about it, and what was found."""

    number: int
    """What the engine calls it."""
    clicks: dict[int, Clicks] = field(default_factory=dict)
    """Points and box by frame, as far as later points can be added to them."""
    prompted: set[int] = field(default_factory=set)
    """Frames with a prompt."""
    conditioning: set[int] = field(default_factory=set)
    """Frames with a prompt that conditions others."""
    visited: set[int] = field(default_factory=set)
    """Frames that were tracked."""


class InferenceState(dict[str, Any]):
    """One video with its objects: a dictionary with the entries that programs read.

    ``num_frames`` (None if the file does not tell), ``video_height``, ``video_width``, ``obj_ids``, ``obj_id_to_idx``,
    ``obj_idx_to_id``, ``device``, ``storage_device``, ``offload_video_to_cpu`` and ``offload_state_to_cpu``.
    """

    def __init__(self, session: VideoSession) -> None:
        width, height = session.size or (0, 0)
        super().__init__(num_frames=session.frame_count, video_height=height, video_width=width)
        self.session = session
        self.numbers = 0
        self.tracks: dict[Hashable, Track] = {}
        self.name_objects()

    def __missing__(self, key: str) -> NoReturn:
        raise KeyError(f"{key}: not offered; frames are read one by one, and the model's memory is in state.session")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self["video_height"], self["video_width"]

    def name_objects(self) -> None:
        """Brings the entries up to date with the objects."""
        ids = list(self.tracks)
        self["obj_ids"] = ids
        self["obj_id_to_idx"] = {name: i for i, name in enumerate(ids)}
        self["obj_idx_to_id"] = dict(enumerate(ids))

    def frame(self, index: Any) -> int:
        """A frame of the video.

        Raises
        ------
        FrameError
            It has none of this number.
        """
        frame, count = operator.index(index), self["num_frames"]
        if frame < 0 or (count is not None and frame >= count):
            raise FrameError(f"frame_idx: there is no frame {frame}, the video has {count}")
        return frame

    def track(self, obj_id: Hashable) -> Track:
        """An object that there is.

        Raises
        ------
        RuntimeError
            There is none of this name.
        """
        if obj_id not in self.tracks:
            raise RuntimeError(f"obj_id: there is no object {obj_id!r}, only {self['obj_ids']}")
        return self.tracks[obj_id]

    def visit(self, frame: int) -> None:
        """Notes that a frame was tracked."""
        if self["num_frames"] is not None:
            # What a file says of its length may be wrong.
            self["num_frames"] = max(self["num_frames"], frame + 1)
        for track in self.tracks.values():
            track.visited.add(frame)

    def known(self, frame: int) -> list[ObjectMask | None]:
        """What is known of each object in a frame."""
        return [self.session.known(frame, track.number) for track in self.tracks.values()]


class SAM2VideoPredictor(SAM2Base):
    """Follows objects through videos, whose frames are read one by one and not kept.

    Parameters
    ----------
    segmenter : samara.Segmenter
    fill_hole_area : int, default 0
        Holes of at most so many cells of the low-resolution logits are filled.
    non_overlap_masks : bool, default False
        A pixel belongs to one object at most.
    clear_non_cond_mem_around_input : bool, default False
        A prompt drops what is remembered of the frames around it.
    add_all_frames_to_correct_as_cond : bool, default False
        A correction of a tracked frame stays when the frame is tracked again.
    keep_all : bool, default True
        Keeps what is known of each frame, about a megabyte for each and every object, as the official package does.
        Otherwise that of 16 frames around the last one is kept, for long videos; a correction further away than that
        does not see what was found there.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        fill_hole_area: int = 0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        keep_all: bool = True,
    ) -> None:
        super().__init__(segmenter)
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self.keep_all = keep_all

    @classmethod
    def from_pretrained(cls: type[Predictor], model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """The predictor of a released model.

        Parameters
        ----------
        model_id : str
            Such as ``"facebook/sam2.1-hiera-tiny"``; see :func:`~samara.compat.sam2.build_sam.build_sam2_hf`.
        **kwargs
            As of :func:`~samara.compat.sam2.build_sam.build_sam2_video_predictor`.
        """
        from .build_sam import build_sam2_video_predictor_hf

        return build_sam2_video_predictor_hf(model_id, **kwargs)

    def init_state(
        self,
        video_path: str | os.PathLike[str],
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> InferenceState:
        """Opens a video.

        Parameters
        ----------
        video_path : str or path-like
            A folder of frames, in the order of their numbers, or a video file, which is read through ffmpeg.
        offload_video_to_cpu, offload_state_to_cpu, async_loading_frames : bool
            Of no effect: no frames are loaded ahead but the next one.

        Returns
        -------
        InferenceState
            For all other calls.

        Raises
        ------
        NotImplementedError
            This is no path.
        FileNotFoundError, ImageError, VideoError
            There is no such video, or it cannot be read.
        """
        if not isinstance(video_path, (str, os.PathLike)):
            raise NotImplementedError(f"video_path: a {type(video_path).__name__}, expected the path of a video")
        state = InferenceState(self._session(video_path))
        state["offload_video_to_cpu"] = offload_video_to_cpu
        state["offload_state_to_cpu"] = offload_state_to_cpu
        state["device"] = state["storage_device"] = cpu()
        return state

    def _session(self, video: str | os.PathLike[str]) -> VideoSession:
        options: dict[str, Any] = {
            "fill_hole_area": self.fill_hole_area,
            "add_all_frames_to_correct_as_cond": bool(self.add_all_frames_to_correct_as_cond),
            "clear_non_cond_mem_around_input": bool(self.clear_non_cond_mem_around_input),
            "keep_all": bool(self.keep_all),
        }
        session = VideoSession(self.segmenter, video, **options)
        count = session.frame_count
        if count is None or count >= SHORT:
            return session
        return VideoSession(self.segmenter, video, num_frames=count, **options)

    def add_new_points_or_box(
        self,
        inference_state: InferenceState,
        frame_idx: int,
        obj_id: Any,
        points: Array | None = None,
        labels: Array | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Array | None = None,
    ) -> Result:
        """Answers points and a box for an object, new or known, in a frame.

        Parameters
        ----------
        inference_state : InferenceState
        frame_idx : int
            Number of the frame, from 0.
        obj_id : hashable
            Name of the object.
        points : array, shape (n, 2), optional
            Points (x, y) in pixels of the frame.
        labels : array, shape (n,), optional
            1 for a point on the object, 0 for one beside it; 2 and 3 for the corners of a box.
        clear_old_points : bool, default True
            Forgets earlier points for this object in this frame; otherwise these are added to them.
        normalize_coords : bool, default True
            Coordinates are in pixels; otherwise they are shares of the frame's width and height.
        box : array, shape (4,), optional
            Left, top, right and bottom.

        Returns
        -------
        frame_idx : int
        obj_ids : list
            All objects.
        video_res_masks : array of float32, shape (n, 1, height, width)
            The logits of all objects in this frame, as far as they are known, else -1024; a tensor if the program
            uses torch.

        Raises
        ------
        FrameError
            The video has no such frame.
        ValueError
            There is neither a point nor a box, they lie outside of the frame, or an array has another shape.
        """
        state = _state(inference_state)
        frame = state.frame(frame_idx)
        if (points is None) != (labels is None):
            raise ValueError("points and labels: one is missing; give both")
        if points is None and box is None:
            raise ValueError("points and box: both are missing; give at least one")
        if box is not None and not clear_old_points:
            raise ValueError("box: comes before all points, and cannot be added to them; use clear_old_points=True")
        clicks = Clicks()
        if points is not None:
            rows = clicks_of(points, labels, state.size, bool(normalize_coords))
            if len(rows) != 1:
                raise ValueError(f"points: {len(rows)} prompts, expected those of one object")
            clicks = rows[0]
        if box is not None:
            clicks.box = _one_box(box, state.size, bool(normalize_coords))
        known = state.tracks.get(obj_id)
        if known is not None and not clear_old_points and frame in known.clicks:
            clicks = known.clicks[frame].followed_by(clicks)
        self._ask(state, frame, obj_id, clicks.arguments())
        state.track(obj_id).clicks[frame] = clicks
        return self._in_frame(state, frame)

    def add_new_points(self, *args: Any, **kwargs: Any) -> Result:
        """The old name of :meth:`add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(self, inference_state: InferenceState, frame_idx: int, obj_id: Any, mask: Array) -> Result:
        """Takes a mask for an object, new or known, in a frame; earlier prompts for it there are forgotten.

        Parameters
        ----------
        inference_state, frame_idx, obj_id
            As of :meth:`add_new_points_or_box`.
        mask : array, shape (height, width)
            Not 0 on the object. One of another size than the frame is scaled.

        Returns
        -------
        frame_idx, obj_ids, video_res_masks
            As of :meth:`add_new_points_or_box`.

        Raises
        ------
        AssertionError
            The mask has another number of axes.
        """
        state = _state(inference_state)
        frame = state.frame(frame_idx)
        array = to_numpy_or_none(mask, 2)
        if array is None or array.dtype.kind not in "biuf" or array.size == 0:
            raise AssertionError("mask: expected numbers or truth values of shape (height, width)")
        bits: NDArray[np.bool_] = array >= 0.5 if is_tensor(mask) else array.astype(np.bool_)
        if bits.shape != state.size:
            bits = resize_values(bits.astype(np.float32), state.size) >= 0.5
        self._ask(state, frame, obj_id, {"mask": np.ascontiguousarray(bits)})
        state.track(obj_id).clicks.pop(frame, None)
        return self._in_frame(state, frame)

    def _ask(self, state: InferenceState, frame: int, obj_id: Hashable, prompt: dict[str, Any]) -> None:
        """Asks the engine; an object appears only once its prompt was answered."""
        track = state.tracks.get(obj_id) or Track(state.numbers)
        state.session.prompt(frame, track.number, **prompt)
        if obj_id not in state.tracks:
            state.numbers += 1
            state.tracks[obj_id] = track
            state.name_objects()
        track.prompted.add(frame)
        if frame not in track.visited or self.add_all_frames_to_correct_as_cond:
            track.conditioning.add(frame)

    def propagate_in_video_preflight(self, inference_state: InferenceState) -> None:
        """Makes sure that tracking can begin; it does this by itself.

        Raises
        ------
        RuntimeError
            There is no object, or one without a prompt.
        """
        state = _state(inference_state)
        if not state.tracks:
            raise RuntimeError("no object to follow: add points, a box or a mask first")
        for obj_id, track in state.tracks.items():
            if not track.conditioning:
                raise RuntimeError(f"object {obj_id!r}: it has no prompt; add points, a box or a mask, or remove it")

    def propagate_in_video(
        self,
        inference_state: InferenceState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Result]:
        """Finds all objects in a range of frames, one frame for each step of the loop.

        Parameters
        ----------
        inference_state : InferenceState
        start_frame_idx : int, optional
            The first frame of the loop; without it the first one with a prompt.
        max_frame_num_to_track : int, optional
            How many frames follow it; without it all.
        reverse : bool, default False
            Toward the start of the video.

        Yields
        ------
        frame_idx, obj_ids, video_res_masks
            As of :meth:`add_new_points_or_box`.

        Raises
        ------
        RuntimeError
            There is no object, or one without a prompt.
        FrameError
            The video has no such frame.
        """
        state = _state(inference_state)
        self.propagate_in_video_preflight(state)
        obj_ids, tracks = state["obj_ids"], list(state.tracks.values())
        if start_frame_idx is None:
            start = min(frame for track in tracks for frame in track.conditioning)
        else:
            start = operator.index(start_frame_idx)
            if reverse or start < 0:
                state.frame(start)
        count = None if max_frame_num_to_track is None else operator.index(max_frame_num_to_track)
        beyond = state["num_frames"] is not None and start >= state["num_frames"]
        if beyond or (count is not None and count < 0) or (reverse and start == 0):
            return
        if reverse:
            stop = None if count is None else max(start - count, 0)
        else:
            stop = None if count is None else start + count
        for masks in state.session.propagate(start, stop, direction="backward" if reverse else "forward"):
            state.visit(masks.index)
            found = {mask.object: mask for mask in masks.objects}
            yield masks.index, obj_ids, self._video_res(state, [found.get(track.number) for track in tracks])

    def clear_all_prompts_in_frame(
        self, inference_state: InferenceState, frame_idx: int, obj_id: Any, need_output: bool = True
    ) -> Result | None:
        """Takes back all prompts for an object in a frame. What was found there stays, until it is tracked again.

        Parameters
        ----------
        inference_state, frame_idx, obj_id
            As of :meth:`add_new_points_or_box`.
        need_output : bool, default True

        Returns
        -------
        frame_idx, obj_ids, video_res_masks
            As of :meth:`add_new_points_or_box`; nothing without ``need_output``.

        Raises
        ------
        RuntimeError
            There is no such object.
        """
        state = _state(inference_state)
        frame, track = state.frame(frame_idx), state.track(obj_id)
        state.session.clear_prompt(frame, track.number)
        track.clicks.pop(frame, None)
        track.prompted.discard(frame)
        if frame in track.conditioning:
            track.conditioning.remove(frame)
            track.visited.discard(frame)
            if not track.conditioning:
                track.visited.clear()
        return self._in_frame(state, frame) if need_output else None

    def reset_state(self, inference_state: InferenceState) -> None:
        """Forgets all objects."""
        state = _state(inference_state)
        for number in state.session.objects:
            state.session.remove(number)
        state.tracks.clear()
        state.name_objects()

    def remove_object(
        self, inference_state: InferenceState, obj_id: Any, strict: bool = False, need_output: bool = True
    ) -> tuple[list[Any], list[tuple[int, Array]]]:
        """Forgets an object.

        Parameters
        ----------
        inference_state : InferenceState
        obj_id : hashable
        strict : bool, default False
            Refuses an object that there is not.
        need_output : bool, default True

        Returns
        -------
        obj_ids : list
            The objects that remain.
        updated_frames : list of (int, array)
            The frames in which the object had a prompt, with the logits of the others there; none without
            ``need_output``.

        Raises
        ------
        RuntimeError
            There is no such object, with ``strict``.
        """
        state = _state(inference_state)
        if obj_id not in state.tracks and not strict:
            return state["obj_ids"], []
        track = state.track(obj_id)
        if track.number in state.session.objects:
            state.session.remove(track.number)
        del state.tracks[obj_id]
        state.name_objects()
        if not state.tracks or not need_output:
            return state["obj_ids"], []
        return state["obj_ids"], [(frame, self._in_frame(state, frame)[2]) for frame in sorted(track.prompted)]

    def _in_frame(self, state: InferenceState, frame: int) -> Result:
        """What is known of all objects in a frame."""
        return frame, state["obj_ids"], self._video_res(state, state.known(frame))

    def _video_res(self, state: InferenceState, masks: list[ObjectMask | None]) -> Array:
        height, width = state.size
        logits = np.full((len(masks), 1, height, width), NO_OBJ_SCORE, np.float32)
        for row, mask in zip(logits, masks, strict=True):
            if mask is not None:
                row[0] = mask.logits
        if self.non_overlap_masks and len(masks) > 1:
            best = np.arange(len(masks))[:, None, None, None] == logits.argmax(axis=0)
            logits = np.where(best, logits, np.minimum(logits, np.float32(SUPPRESSED)))
        return tensor_if_loaded(logits)


def _one_box(box: Any, size: tuple[int, int], normalize: bool) -> NDArray[np.float64]:
    nested = to_numpy_or_none(box, 2)
    boxes = boxes_of(box if nested is None or nested.shape != (2, 2) else nested.reshape(4), size, normalize)
    if len(boxes) != 1:
        raise ValueError(f"box: {len(boxes)} boxes, expected one; ask for each object by itself")
    corners: NDArray[np.float64] = boxes[0]
    return corners


def _state(inference_state: Any) -> InferenceState:
    if not isinstance(inference_state, InferenceState):
        raise TypeError(f"inference_state: a {type(inference_state).__name__}, expected the result of init_state")
    return inference_state
