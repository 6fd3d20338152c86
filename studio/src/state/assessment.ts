/** How good the model thinks that masks are which are there. */

import { signal } from "@preact/signals";

import type { Opened, StoredObject } from "../core/api";
import { runsOf } from "../core/lazily";
import { counted } from "../core/words";
import { LOW } from "./queue";
import type { Studio } from "./studio";

export class Assessment {
  /** By object: which mask was looked at, and the estimate of its IoU. */
  private readonly known = signal<ReadonlyMap<number, readonly [mask: string, estimate: number]>>(new Map());

  /** How many pictures are looked at, of how many; null while nobody looks. */
  readonly progress = signal<{ readonly done: number; readonly all: number } | null>(null);
  private looking: AbortController | null = null;

  constructor(private readonly studio: Studio) {}

  /** Of an object as it is now: another mask has none. */
  of(object: StoredObject): number | undefined {
    const [mask, estimate] = this.known.value.get(object.id) ?? [];
    return mask === runsOf(object).counts ? estimate : undefined;
  }

  isSuspect(object: StoredObject): boolean {
    return (this.of(object) ?? 1) < LOW;
  }

  /** Looks at all objects of the open picture. */
  async make(): Promise<void> {
    const open = this.studio.open.peek();
    if (open === null || this.studio.lacksFile()) return;
    await this.studio.attempt(() => this.look(open));
  }

  private async look({ picture, image, objects }: Opened): Promise<void> {
    const estimates = await this.studio.api.quality(image.id, objects.map(({ mask }) => mask));
    const found = objects.map((object, i) => [object.id, [runsOf(object).counts, estimates[i] ?? 0]] as const);
    this.known.value = new Map([...this.known.peek(), ...found]);
    const { quality } = this.studio.queue;
    quality.value = new Map([...quality.peek(), [picture.id, [picture.revision, Math.min(...estimates)]]]);
  }

  /** Looks at the masks of all pictures that nobody has looked at since they were changed. */
  async makeAll(): Promise<void> {
    const { queue, api } = this.studio;
    const isDue = ({ id, revision }: { id: number; revision: number }): boolean => queue.quality.peek().get(id)?.[0] !== revision;
    const due = queue.pictures.peek().filter((picture) => {
      const hasMasks = picture.objects > 0 && picture.frames === null && !picture.is_gone;
      return hasMasks && isDue(picture);
    });
    const looking = new AbortController();
    this.looking = looking;
    let failed = 0;
    for (const [done, { id }] of due.entries()) {
      if (looking.signal.aborted) break;
      this.progress.value = { done, all: due.length };
      try {
        await this.look(await api.open(id, true));
      } catch {
        failed++;
      }
    }
    this.progress.value = null;
    this.looking = null;
    if (failed > 0) this.studio.tell("error", `${counted(failed, "picture")} could not be assessed.`);
  }

  stop(): void {
    this.looking?.abort();
  }
}
