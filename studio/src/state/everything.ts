/** All masks of a picture, to pick from: what lies in what is walked from the smallest to the largest. */

import { computed, signal } from "@preact/signals";

import type { Found, Job, NewObject } from "../core/api";
import { area, has, type Mask } from "../core/mask";
import { counted } from "../core/words";
import type { Studio } from "./studio";

/** A mask with the smallest one that it lies in. */
export interface Node extends Found {
  readonly area: number;
  readonly parent: number | null;
}

/** This share of a mask's pixels lies in another that it is a part of. */
const INSIDE = 0.9;

/** The masks, the largest first, each with what it is a part of. */
export function treeOf(found: readonly Found[]): readonly Node[] {
  const sized = found.map(({ mask, predicted_iou }) => ({ mask, predicted_iou, area: area(mask) }));
  sized.sort((a, b) => b.area - a.area);
  return sized.map((node, i) => {
    let parent: number | null = null;
    for (let j = i - 1; j >= 0 && parent === null; j--) {
      const other = sized[j];
      if (other !== undefined && shared(node.mask, other.mask) >= INSIDE * node.area) parent = j;
    }
    return { ...node, parent };
  });
}

function shared(a: Mask, b: Mask): number {
  const { box } = a;
  let sum = 0;
  for (let x = box.x, i = 0; x < box.x + box.width; x++) {
    for (let y = box.y; y < box.y + box.height; y++, i++) if (a.pixels[i] === 1 && has(b, x, y)) sum++;
  }
  return sum;
}

export class Everything {
  readonly nodes = signal<readonly Node[]>([]);
  readonly progress = signal<number | null>(null);
  readonly current = signal<number | null>(null);
  readonly isShown = computed(() => this.nodes.value.length > 0);
  private running: AbortController | undefined;

  constructor(private readonly studio: Studio) {}

  async find(pointsPerSide = 16): Promise<void> {
    const open = this.studio.open.peek();
    if (open === null || this.studio.lacksFile()) return;
    this.clear();
    const running = new AbortController();
    this.running = running;
    this.progress.value = 0;
    const { api } = this.studio;
    await this.studio.attempt(async () => {
      const job = await api.everything(open.image.id, pointsPerSide);
      const cancel = (): void => void api.cancel(job.id).catch(() => undefined);
      running.signal.addEventListener("abort", cancel);
      for await (const { kind, data } of api.follow(job.id, running.signal)) {
        const now = data as Job;
        if (kind === "done") break;
        if (kind === "failed") throw new Error(now.error?.detail ?? "the work has failed");
        if (kind === "progress") this.progress.value = now.progress;
      }
      const found = await api.found(job.id);
      running.signal.removeEventListener("abort", cancel);
      cancel();
      if (running.signal.aborted || this.studio.open.peek()?.visit !== open.visit) return;
      this.nodes.value = treeOf(found);
      this.studio.settings.tool.value = "pick";
      if (found.length === 0) this.studio.tell("note", "Nothing was found.");
    });
    if (this.running === running) this.progress.value = null;
  }

  clear(): void {
    this.running?.abort();
    this.running = undefined;
    this.progress.value = null;
    this.nodes.value = [];
    this.current.value = null;
    if (this.studio.settings.tool.peek() === "pick") this.studio.settings.tool.value = "segment";
  }

  /** The smallest mask at a place. */
  point([x, y]: readonly [number, number]): void {
    const nodes = this.nodes.peek();
    const [px, py] = [Math.floor(x), Math.floor(y)];
    const current = this.current.peek();
    const now = current === null ? undefined : nodes[current];
    // One that was walked to stays while the pointer is inside.
    if (now !== undefined && has(now.mask, px, py)) return;
    const at = nodes.findLastIndex(({ mask }) => has(mask, px, py));
    this.current.value = at < 0 ? null : at;
  }

  /** From a mask to what it is a part of, or to its largest part. */
  walk(way: "out" | "in"): void {
    const nodes = this.nodes.peek();
    const current = this.current.peek();
    if (current === null) {
      this.current.value = nodes.length > 0 ? 0 : null;
      return;
    }
    const next = way === "out" ? nodes[current]?.parent : nodes.findIndex(({ parent }) => parent === current);
    if (next !== null && next !== undefined && next >= 0) this.current.value = next;
  }

  /** The next mask beside it, which is part of the same. */
  step(steps: 1 | -1): void {
    const nodes = this.nodes.peek();
    const current = this.current.peek();
    const parent = current === null ? null : (nodes[current]?.parent ?? null);
    const beside = nodes.flatMap((node, i) => (node.parent === parent ? [i] : []));
    if (beside.length === 0) return;
    const at = current === null ? -1 : beside.indexOf(current);
    this.current.value = beside[(at + steps + beside.length) % beside.length] ?? null;
  }

  async pick(): Promise<void> {
    const current = this.current.peek();
    const node = current === null ? undefined : this.nodes.peek()[current];
    if (node === undefined) return;
    if (await this.studio.edit(() => [{ add: this.objectOf(node) }])) this.studio.tell("note", "Picked.");
  }

  /** All masks, the smaller above the larger. */
  async pickAll(): Promise<void> {
    const nodes = this.nodes.peek();
    if (!(await this.studio.edit(() => nodes.map((node) => ({ add: this.objectOf(node) }))))) return;
    this.clear();
    this.studio.tell("note", `Picked: ${counted(nodes.length, "mask")}.`);
  }

  private objectOf({ mask, predicted_iou }: Node): NewObject {
    const kind = this.studio.settings.activeClass.peek();
    return { mask, class: kind, predicted_iou, prompt: null, attributes: {} };
  }
}
