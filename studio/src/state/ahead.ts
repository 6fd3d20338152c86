/** What is made ready before somebody looks at it: the next pictures, and what the model has read of them. */

import { signal } from "@preact/signals";

import { Problem, type EmbeddingState, type Opened, type Picture } from "../core/api";
import { topLevel } from "../core/pyramid";
import type { Studio } from "./studio";

/** How many of the next pictures are made ready. */
const AHEAD = 3;
/** Milliseconds between two looks at how far embeddings are. */
const LOOK_AGAIN = 300;

export class Ahead {
  readonly embeddings = signal<ReadonlyMap<string, EmbeddingState>>(new Map());
  private readonly ready = new Map<number, Opened>();
  private looking: number | undefined;

  constructor(private readonly studio: Studio) {}

  /** A picture that was made ready and that nobody has changed since. */
  find(id: number, revision: number | undefined): Opened | undefined {
    const opened = this.ready.get(id);
    return revision === undefined || opened?.picture.revision === revision ? opened : undefined;
  }

  forget(): void {
    this.ready.clear();
  }

  /** Something has changed a picture. */
  changed({ id, revision }: Picture): void {
    if (this.find(id, revision) === undefined) this.ready.delete(id);
  }

  /** The next frames of a video, or the next pictures. */
  private next(now: Opened): readonly { readonly id: number; readonly revision: number | undefined }[] {
    const { queue, video } = this.studio;
    if (now.picture.video !== null) return video.after(AHEAD).map((id) => ({ id, revision: undefined }));
    return queue.after(now.picture.id, AHEAD).filter(({ frames }) => frames === null);
  }

  /** Makes the next pictures ready, one after the other. */
  async prepare(): Promise<void> {
    const { api, open, queue } = this.studio;
    const now = open.peek();
    if (now === null) return;
    void this.look();
    for (const { id, revision } of this.next(now)) {
      if (open.peek()?.picture.id !== now.picture.id) return;
      if (this.find(id, revision) !== undefined) continue;
      try {
        const opened = await api.open(id, true);
        this.ready.set(id, opened);
        const { width, height } = opened.image;
        await api.tile(id, [topLevel([width, height]), 0, 0], null);
        if (opened.picture.revision === revision) queue.update(opened.picture);
      } catch {
        // It is told when somebody looks at that picture.
      }
    }
    void this.look();
  }

  /** Asks for the embeddings of this picture and the next ones, and looks how far they are until they are there. */
  private async look(): Promise<void> {
    clearTimeout(this.looking);
    const { api, open, queue } = this.studio;
    const now = open.peek();
    if (now === null) return;
    const ids = this.next(now).map(({ id }) => this.ready.get(id)?.picture ?? queue.find(id));
    const next = ids.flatMap((picture) => picture?.sha256 ?? []);
    const pending = [...this.embeddings.peek()].filter(([, state]) => state === "queued" || state === "running");
    const here = now.isMissing ? [] : [now.image.id];
    const wanted = [...new Set([...here, ...next, ...pending.map(([id]) => id)])];
    try {
      const states = await api.embedAhead(wanted);
      this.embeddings.value = new Map([...this.embeddings.peek(), ...states]);
      const isDone = [...states.values()].every((state) => state === "ready" || state === "failed");
      if (isDone) return;
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 429) return;
    }
    clearTimeout(this.looking);
    this.looking = window.setTimeout(() => void this.look(), LOOK_AGAIN);
  }
}
