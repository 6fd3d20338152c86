/** How good the model thinks that masks are which are there. */

import { signal } from "@preact/signals";

import type { StoredObject } from "../core/api";
import { runsOf } from "../core/lazily";
import type { Studio } from "./studio";

export class Assessment {
  /** By object: which mask was looked at, and the estimate of its IoU. */
  private readonly known = signal<ReadonlyMap<number, readonly [mask: string, estimate: number]>>(new Map());

  constructor(private readonly studio: Studio) {}

  /** Of an object as it is now: another mask has none. */
  of(object: StoredObject): number | undefined {
    const [mask, estimate] = this.known.value.get(object.id) ?? [];
    return mask === runsOf(object).counts ? estimate : undefined;
  }

  /** Looks at all objects of the open picture. */
  async make(): Promise<void> {
    const { api, open, objects } = this.studio;
    const [now, all] = [open.peek(), objects.peek()];
    if (now === null || this.studio.lacksFile()) return;
    await this.studio.attempt(async () => {
      const estimates = await api.quality(now.image.id, all.map(({ mask }) => mask));
      this.known.value = new Map(all.map((object, i) => [object.id, [runsOf(object).counts, estimates[i] ?? 0]]));
    });
  }
}
