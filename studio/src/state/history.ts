/** Steps back and forth over values that do not change. */

import { computed, signal, type ReadonlySignal } from "@preact/signals";

export class History<T> {
  private readonly steps = signal<{ readonly past: readonly T[]; readonly now: T; readonly future: readonly T[] }>(
    undefined as never,
  );
  readonly now: ReadonlySignal<T> = computed(() => this.steps.value.now);
  readonly canUndo = computed(() => this.steps.value.past.length > 0);
  readonly canRedo = computed(() => this.steps.value.future.length > 0);

  constructor(first: T) {
    this.begin(first);
  }

  /** Another value, with nothing before it. */
  begin(first: T): void {
    this.steps.value = { past: [], now: first, future: [] };
  }

  /** A new step; what was undone is gone. */
  push(next: T): void {
    const { past, now } = this.steps.peek();
    this.steps.value = { past: [...past, now], now: next, future: [] };
  }

  /** The same step, known better. */
  amend(now: T): void {
    this.steps.value = { ...this.steps.peek(), now };
  }

  undo(): boolean {
    const { past, now, future } = this.steps.peek();
    const before = past[past.length - 1];
    if (before === undefined) return false;
    this.steps.value = { past: past.slice(0, -1), now: before, future: [now, ...future] };
    return true;
  }

  redo(): boolean {
    const { past, now, future } = this.steps.peek();
    const [next, ...rest] = future;
    if (next === undefined) return false;
    this.steps.value = { past: [...past, now], now: next, future: rest };
    return true;
  }
}
