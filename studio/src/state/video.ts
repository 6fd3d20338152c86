/** The video of which a frame is open: its objects from frame to frame. */

import { computed, signal } from "@preact/signals";

import type { Applied, Edit, Picture } from "../core/api";
import { keyframeBeside, lanesOf, replaced, type Placed } from "../core/tracks";
import { counted } from "../core/words";
import type { Studio } from "./studio";

interface OpenVideo {
  readonly picture: Picture;
  /** Pictures of their own. */
  readonly frames: readonly number[];
}

/** How far a propagation is. */
interface Propagation {
  readonly from: number;
  readonly to: number;
  readonly now: number;
}

/** Milliseconds for which changes of others are gathered. */
const GATHERED = 500;

export class Video {
  readonly open = signal<OpenVideo | null>(null);
  readonly placed = signal<readonly Placed[]>([]);
  readonly lanes = computed(() => lanesOf(this.placed.value));
  /** The object that a mask in a frame without it belongs to; null for a new one. */
  readonly track = signal<number | null>(null);
  /** How many frames objects are followed at a time; null to the end of the video. */
  readonly reach = signal<number | null>(null);
  readonly propagation = signal<Propagation | null>(null);
  readonly isPlaying = signal(false);
  /** Which frame is open, from 0. */
  readonly frame = computed(() => {
    const picture = this.studio.open.value?.picture;
    return picture?.video === this.open.value?.picture.id ? (picture?.frame ?? null) : null;
  });

  private readonly last = new Map<number, number>();
  private running: AbortController | null = null;
  private gathering: number | undefined;

  constructor(private readonly studio: Studio) {}

  /** Opens a video at the frame where it was left, or at one of its frames. */
  async show(id: number, frame?: number): Promise<void> {
    const { opening } = this.studio;
    opening.value = id;
    const told = await this.studio.attempt(() => this.studio.api.openVideo(id));
    if (opening.peek() !== id) return;
    opening.value = null;
    if (told === undefined) return;
    const { video: picture, frames, placed } = told;
    if (picture.is_changed) this.studio.tell("error", `${picture.path} is another video than that on which masks were drawn.`);
    this.studio.queue.update(picture);
    this.open.value = { picture, frames };
    this.placed.value = placed;
    this.track.value = null;
    await this.goTo(frame ?? this.last.get(id) ?? 0);
  }

  async goTo(frame: number): Promise<void> {
    const open = this.open.peek();
    if (open === null) return;
    const at = Math.min(open.frames.length - 1, Math.max(0, frame));
    const id = open.frames[at];
    if (id === undefined || id === this.studio.open.peek()?.picture.id) return;
    this.last.set(open.picture.id, at);
    await this.studio.show(id);
  }

  /** Answers whether there is such a frame. */
  async step(steps: number): Promise<boolean> {
    const [open, frame] = [this.open.peek(), this.frame.peek()];
    if (open === null || frame === null || open.frames[frame + steps] === undefined) return false;
    await this.goTo(frame + steps);
    return true;
  }

  async goToKeyframe(way: 1 | -1): Promise<void> {
    const frame = this.frame.peek();
    const next = frame === null ? undefined : keyframeBeside(this.placed.peek(), frame, way);
    if (next !== undefined) await this.goTo(next);
  }

  /** The frames after the open one. */
  after(count: number): readonly number[] {
    const [open, frame] = [this.open.peek(), this.frame.peek()];
    return open === null || frame === null ? [] : open.frames.slice(frame + 1, frame + 1 + count);
  }

  /** One frame after the other, in the time of the video or as fast as they come. */
  async play(): Promise<void> {
    const open = this.open.peek();
    if (open === null || this.isPlaying.peek()) {
      this.isPlaying.value = false;
      return;
    }
    const pause = 1000 / (open.picture.rate ?? 25);
    this.isPlaying.value = true;
    let next = performance.now();
    while (this.isPlaying.peek() && (await this.step(1))) {
      next = Math.max(performance.now(), next + pause);
      await new Promise((resolve) => setTimeout(resolve, next - performance.now()));
    }
    this.isPlaying.value = false;
  }

  /** An edit of a frame: a new mask belongs to the object that is chosen, where that has none. */
  placing(edits: readonly Edit[]): readonly Edit[] {
    const [track, frame] = [this.track.peek(), this.frame.peek()];
    const isThere = this.placed.peek().some((place) => place.frame === frame && place.track === track);
    if (track === null || frame === null || isThere) return edits;
    const first = edits.find((edit) => "add" in edit);
    return edits.map((edit) => (edit === first && "add" in edit ? { add: { ...edit.add, lane: track } } : edit));
  }

  /** What an edit of a frame has made of it. Undoing may have changed others. */
  async applied({ picture, objects }: Applied, isUndoing: boolean): Promise<void> {
    const frame = this.frame.peek();
    if (frame === null) return;
    if (!isUndoing && picture === this.studio.open.peek()?.picture.id) {
      this.placed.value = replaced(this.placed.peek(), frame, objects);
      return;
    }
    await this.reload();
    const other = this.open.peek()?.frames.indexOf(picture) ?? -1;
    if (other >= 0) await this.goTo(other);
  }

  /** Somebody has changed the video. */
  changed(picture: Picture): void {
    const open = this.open.peek();
    if (open?.picture.id !== picture.id || this.running !== null) return;
    clearTimeout(this.gathering);
    this.gathering = window.setTimeout(() => void this.reload(), GATHERED);
  }

  async reload(): Promise<void> {
    const id = this.open.peek()?.picture.id;
    if (id === undefined) return;
    const placed = await this.studio.attempt(() => this.studio.api.tracks(id));
    if (placed !== undefined && this.open.peek()?.picture.id === id) this.placed.value = placed;
  }

  /** Follows the objects of the open frame, or those that are selected, through the frames after or before it. */
  async propagate(way: 1 | -1): Promise<void> {
    const [open, from] = [this.open.peek(), this.frame.peek()];
    if (open === null || from === null || this.running !== null) return;
    if (!(await this.studio.prompting.keep())) return;
    const reach = this.reach.peek() ?? open.frames.length;
    const to = Math.min(open.frames.length - 1, Math.max(0, from + way * reach));
    if (to === from) return;
    const tracks = this.studio.selection.peek().flatMap(({ track }) => track?.id ?? []);
    const running = new AbortController();
    this.running = running;
    this.propagation.value = { from, to, now: from };
    await this.studio.attempt(async () => {
      const asked = { from, to, ...(tracks.length > 0 && { tracks }) };
      for await (const event of this.studio.api.propagate(open.picture.id, asked, running.signal)) {
        if (event.kind === "failed") throw new Error((event.data as { detail: string }).detail);
        if (event.kind === "frame") await this.followed(event.data as { frame: number; placed: readonly Placed[] });
      }
      this.studio.tell("note", `Followed through ${counted(Math.abs(to - from), "frame")}.`);
    });
    this.running = null;
    this.propagation.value = null;
    await this.reload();
  }

  /** A frame is done; who looks at the one before it sees it. */
  private async followed({ frame, placed }: { frame: number; placed: readonly Placed[] }): Promise<void> {
    const before = this.propagation.peek();
    const isWatching = before !== null && this.frame.peek() === before.now;
    this.placed.value = [...this.placed.peek().filter((place) => place.frame !== frame), ...placed];
    if (before !== null) this.propagation.value = { ...before, now: frame };
    if (isWatching) await this.goTo(frame);
  }

  /** What was found until now is kept. */
  stop(): void {
    this.running?.abort();
  }

  choose(track: number | null): void {
    this.track.value = track;
    const frame = this.frame.peek();
    const here = this.placed.peek().find((place) => place.frame === frame && place.track === track);
    this.studio.select(here?.object ?? null, false);
  }

  async removeTrack(track: number): Promise<void> {
    if (this.track.peek() === track) this.track.value = null;
    await this.studio.edit(() => [{ remove_track: track }]);
    await this.reload();
  }

  /** Another picture is open. */
  leave(): void {
    if (this.running !== null) this.studio.tell("note", "Following has ended where it was; what was found is kept.");
    this.stop();
    this.isPlaying.value = false;
    this.open.value = null;
    this.placed.value = [];
    this.track.value = null;
  }
}
