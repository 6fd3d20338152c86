/** The pictures, in the order in which they are worked on, and which of them are looked at. */

import { computed, signal } from "@preact/signals";

import type { Picture } from "../core/api";

export type Show = "all" | "unchecked" | "checked" | "empty" | "low" | "suspect" | "problems";

/** Below this an estimated IoU is worth a second look. */
export const LOW = 0.75;

export class Queue {
  readonly pictures = signal<readonly Picture[]>([]);
  readonly show = signal<Show>("all");
  readonly search = signal("");
  readonly kind = signal<number | null>(null);
  /** By picture: the revision whose masks were assessed, and the lowest estimate of an IoU among them. */
  readonly quality = signal<ReadonlyMap<number, readonly [revision: number, lowest: number]>>(new Map());
  readonly shown = computed(() => this.pictures.value.filter((picture) => this.isShown(picture)));
  readonly checked = computed(() => this.pictures.value.filter(({ checked }) => checked).length);

  private isShown(picture: Picture): boolean {
    const kind = this.kind.value;
    const words = this.search.value.toLowerCase();
    if (kind !== null && !picture.classes.includes(kind)) return false;
    if (!picture.path.toLowerCase().includes(words)) return false;
    return this.show.value === "suspect" ? this.isSuspect(picture) : matches(picture, this.show.value);
  }

  private isSuspect({ id, revision }: Picture): boolean {
    const [assessed, lowest] = this.quality.value.get(id) ?? [];
    return assessed === revision && lowest !== undefined && lowest < LOW;
  }

  find(id: number): Picture | undefined {
    return this.pictures.peek().find((picture) => picture.id === id);
  }

  /** The picture of a path, or the video of that of a frame. */
  named(wanted: string): { readonly picture: Picture; readonly frame?: number } | undefined {
    const pictures = this.pictures.peek();
    const picture = pictures.find(({ path }) => path === wanted);
    if (picture !== undefined) return { picture };
    const [, above, frame] = /^(.*)\/(\d+)\.png$/.exec(wanted) ?? [];
    const video = pictures.find(({ path, frames }) => path === above && frames !== null);
    return video && { picture: video, frame: Number(frame) };
  }

  /** What is known of a picture now. */
  update(picture: Picture): void {
    this.pictures.value = this.pictures.peek().map((before) => (before.id === picture.id ? picture : before));
  }

  firstOf(pictures: readonly Picture[]): Picture | undefined {
    const there = pictures.filter(({ is_gone }) => !is_gone);
    return there.find(({ checked }) => !checked) ?? there[0] ?? pictures[0];
  }

  /** The pictures that come after one, without those that are not there. */
  after(id: number, count: number): readonly Picture[] {
    const shown = this.shown.peek();
    const at = shown.findIndex((picture) => picture.id === id);
    return shown
      .slice(at + 1)
      .filter(({ is_gone }) => !is_gone)
      .slice(0, count);
  }

  beside(id: number | undefined, steps: number): Picture | undefined {
    const shown = this.shown.peek();
    const at = shown.findIndex((picture) => picture.id === id);
    return shown[at < 0 ? 0 : at + steps];
  }

  /** The next one in the round that nobody has checked. */
  nextUnchecked(id: number | undefined): Picture | undefined {
    const all = this.pictures.peek();
    const at = all.findIndex((picture) => picture.id === id) + 1;
    return [...all.slice(at), ...all.slice(0, at)].find(
      (picture) => !picture.checked && !picture.is_gone && picture.id !== id,
    );
  }
}

function matches(picture: Picture, show: Exclude<Show, "suspect">): boolean {
  switch (show) {
    case "all":
      return true;
    case "unchecked":
      return !picture.checked;
    case "checked":
      return picture.checked;
    case "empty":
      return picture.objects === 0;
    case "low":
      return picture.lowest_iou !== null && picture.lowest_iou < LOW;
    case "problems":
      return picture.is_gone || picture.is_changed;
  }
}
