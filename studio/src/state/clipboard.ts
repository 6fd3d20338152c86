/** Objects that are copied, to other pictures. */

import { signal } from "@preact/signals";

import type { NewObject, StoredObject } from "../core/api";
import { counted } from "../core/words";
import type { Studio } from "./studio";

export class Clipboard {
  private readonly content = signal<readonly StoredObject[]>([]);
  /** Of which video they are. */
  private video: number | null = null;

  constructor(private readonly studio: Studio) {}

  copy(): void {
    const selection = this.studio.selection.peek();
    this.content.value = selection.length > 0 ? selection : this.studio.objects.peek();
    this.video = this.studio.open.peek()?.picture.video ?? null;
    const count = this.content.peek().length;
    if (count > 0) this.studio.tell("note", `Copied: ${counted(count, "object")}.`);
  }

  async paste(): Promise<void> {
    const open = this.studio.open.peek();
    const objects = this.content.peek();
    if (open === null || objects.length === 0) return;
    const { width, height } = open.image;
    const other = objects.find(({ mask }) => mask.size[0] !== width || mask.size[1] !== height);
    if (other !== undefined) {
      const [w, h] = other.mask.size;
      this.studio.tell("error", `Masks of a picture of ${w}×${h} pixels do not fit one of ${width}×${height}.`);
      return;
    }
    await this.studio.add(objects.map((object) => this.inLane(object)));
  }

  /** In another frame of the same video it is the same object, if that has no mask there. */
  private inLane(object: StoredObject): NewObject {
    const [{ track }, { video }] = [object, this.studio];
    const isThere = video.placed.peek().some((place) => place.frame === video.frame.peek() && place.track === track?.id);
    const isSame = this.video !== null && this.video === video.open.peek()?.picture.id;
    return track !== null && isSame && !isThere ? { ...object, lane: track.id } : object;
  }

  async copyToNext(): Promise<void> {
    this.copy();
    await this.studio.go(1);
    await this.paste();
  }
}
