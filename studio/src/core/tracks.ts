/** Objects of a video: in which frames they have masks, without the masks. */

import type { StoredObject } from "./api";

/** A mask of an object of a video, without its pixels. */
export interface Placed {
  readonly track: number;
  /** Counted from 0. */
  readonly frame: number;
  /** The object of that frame. */
  readonly object: number;
  readonly class: number | null;
  /** Somebody has drawn or corrected it; others come from propagation. */
  readonly is_keyframe: boolean;
  /** The object is not in the frame, or hidden. */
  readonly is_hidden: boolean;
  readonly predicted_iou: number | null;
}

/** Frames that follow each other, in all of which an object is seen, or hidden. */
export interface Run {
  readonly first: number;
  readonly last: number;
  readonly isHidden: boolean;
}

/** One object through the video. */
export interface Lane {
  readonly track: number;
  readonly class: number | null;
  readonly runs: readonly Run[];
  readonly keyframes: readonly number[];
}

/** The lanes of a video, by the numbers of their objects. */
export function lanesOf(placed: readonly Placed[]): readonly Lane[] {
  const tracks = new Map<number, Placed[]>();
  for (const place of placed) {
    const track = tracks.get(place.track);
    if (track === undefined) tracks.set(place.track, [place]);
    else track.push(place);
  }
  return [...tracks]
    .sort(([a], [b]) => a - b)
    .map(([track, places]) => {
      places.sort((a, b) => a.frame - b.frame);
      return {
        track,
        class: places[0]?.class ?? null,
        runs: runsOf(places),
        keyframes: places.filter(({ is_keyframe }) => is_keyframe).map(({ frame }) => frame),
      };
    });
}

function runsOf(places: readonly Placed[]): readonly Run[] {
  const runs: Run[] = [];
  for (const { frame, is_hidden } of places) {
    const last = runs[runs.length - 1];
    if (last?.last === frame - 1 && last.isHidden === is_hidden) runs[runs.length - 1] = { ...last, last: frame };
    else runs.push({ first: frame, last: frame, isHidden: is_hidden });
  }
  return runs;
}

/** The same with the objects of one frame as they are now. */
export function replaced(
  placed: readonly Placed[],
  frame: number,
  objects: readonly StoredObject[],
): readonly Placed[] {
  const now = objects.flatMap(({ id, track, mask, class: kind, predicted_iou }): Placed[] => {
    if (track === null) return [];
    const is_hidden = mask.box.width === 0;
    return [{ track: track.id, frame, object: id, class: kind, is_keyframe: track.is_keyframe, is_hidden, predicted_iou }];
  });
  return [...placed.filter((place) => place.frame !== frame), ...now];
}

/** The next frame in this direction in which somebody has drawn something. */
export function keyframeBeside(placed: readonly Placed[], frame: number, way: 1 | -1): number | undefined {
  const beside = placed
    .filter((place) => place.is_keyframe && (place.frame - frame) * way > 0)
    .map((place) => Math.abs(place.frame - frame));
  return beside.length === 0 ? undefined : frame + way * Math.min(...beside);
}

/** The time of a frame as players show it. */
export function timeOf(frame: number, rate: number | null): string {
  if (rate === null || rate <= 0) return "";
  const seconds = frame / rate;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}
