/** What is on its way to the server: one edit after the other, and all of them wait while it does not answer. */

import { computed, signal } from "@preact/signals";

import { Problem, Unreachable, type Applied } from "../core/api";
import type { Mask } from "../core/mask";
import type { Open, Studio } from "./studio";

/** Milliseconds after which it is tried again at the latest. */
const AGAIN = 2000;

export class Saving {
  /** Masks that were drawn and are not kept yet; null for other edits. */
  private readonly waiting = signal<readonly (Mask | null)[]>([]);
  /** How many edits are not kept yet. */
  readonly count = computed(() => this.waiting.value.length);
  /** Masks that are shown until they are kept. */
  readonly masks = computed(() => this.waiting.value.filter((mask) => mask !== null));
  private last: Promise<boolean> = Promise.resolve(true);

  constructor(private readonly studio: Studio) {}

  /** Does something to the open picture when all that came before it is kept. Answers whether it is kept. */
  save(work: (open: Open) => Promise<Applied | null>, mask: Mask | null = null, isUndoing = false): Promise<boolean> {
    const picture = this.studio.open.peek()?.picture.id;
    // The same mask may wait twice.
    const entry = mask && { ...mask };
    this.waiting.value = [...this.waiting.peek(), entry];
    const saved = this.last.then(() => this.now(picture, work, isUndoing));
    this.last = saved;
    return saved.finally(() => {
      const at = this.waiting.peek().indexOf(entry);
      this.waiting.value = this.waiting.peek().filter((_, i) => i !== at);
    });
  }

  private async now(
    picture: number | undefined,
    work: (open: Open) => Promise<Applied | null>,
    isUndoing: boolean,
  ): Promise<boolean> {
    const { studio } = this;
    const open = studio.open.peek();
    if (open === null || open.picture.id !== picture) return false;
    try {
      const applied = await this.sent(() => work(open));
      if (applied !== null) {
        studio.apply(open, applied);
        await studio.video.applied(applied, isUndoing);
      }
      return true;
    } catch (error) {
      if (error instanceof Problem && error.status === 409) await studio.refresh();
      studio.tell("error", error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** Asks again when the server is back. */
  private async sent<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        const done = await work();
        this.studio.isReachable.value = true;
        return done;
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        this.studio.isReachable.value = false;
        await this.reached();
      }
    }
  }

  /** Waits until the server answers others, or for a while: one question alone may have failed. */
  private reached(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, AGAIN);
      const end = this.studio.isReachable.subscribe((isReachable) => {
        if (!isReachable) return;
        resolve();
        queueMicrotask(() => {
          end();
        });
      });
    });
  }
}
