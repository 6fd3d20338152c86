/** Objects of which only a box is known get masks, all in one go. */

import { computed, signal } from "@preact/signals";

import type { Edit, Opened, StoredObject } from "../core/api";
import { area } from "../core/mask";
import { keptPrompt, type Corners } from "../core/prompt";
import { counted } from "../core/words";
import { BLANK, boxed, maskOf, objectOf, promptOf } from "./draft";
import type { Studio } from "./studio";

/** So many boxes are asked about at once; the server answers other windows between them. */
const AT_ONCE = 32;

/** The model has said nothing of it, and it fills its box. */
export function isBox({ predicted_iou, mask }: Pick<StoredObject, "predicted_iou" | "mask">): boolean {
  const { width, height } = mask.box;
  return predicted_iou === null && width * height > 1 && area(mask) === width * height;
}

/** The box that an object came with, or else the one around its mask. */
function boxOf({ mask, prompt }: StoredObject): Corners {
  const { x, y, width, height } = mask.box;
  return keptPrompt(prompt, mask.size).box ?? [x, y, x + width, y + height];
}

export class Boxes {
  /** How many pictures are done, of how many; null while nothing is being done. */
  readonly progress = signal<{ readonly done: number; readonly all: number } | null>(null);
  /** Of which objects of the open picture masks would be made: of those that are selected, or of all boxes. */
  readonly here = computed(() => {
    const { objects, selection } = this.studio;
    return selection.value.length > 0 ? selection.value : objects.value.filter(isBox);
  });
  private running: AbortController | null = null;

  constructor(private readonly studio: Studio) {}

  /** Masks for the open picture. */
  async make(): Promise<void> {
    const open = this.studio.open.peek();
    const objects = this.here.peek();
    if (open === null || this.studio.lacksFile()) return;
    if (objects.length === 0) {
      this.studio.tell("note", "No object of this picture is a box.");
      return;
    }
    await this.run(async (running) => {
      this.progress.value = { done: 0, all: 1 };
      const { edits, missing } = await this.masked(open, objects, running.signal);
      if (this.studio.open.peek()?.visit !== open.visit) return;
      if (await this.studio.edit(() => edits)) this.told(edits.length, missing);
    });
  }

  /** Masks for the boxes of all pictures, each picture one step that can be undone. */
  async makeAll(): Promise<void> {
    const { queue, api } = this.studio;
    const pictures = queue.pictures.peek().filter(({ objects, frames, is_gone }) => objects > 0 && frames === null && !is_gone);
    await this.run(async (running) => {
      let [made, missing] = [0, 0];
      for (const [done, { id }] of pictures.entries()) {
        if (running.signal.aborted) break;
        this.progress.value = { done, all: pictures.length };
        const opened = await api.open(id, true);
        const found = await this.masked(opened, opened.objects.filter(isBox), running.signal);
        missing += found.missing;
        if (found.edits.length === 0) continue;
        await api.edit(id, found.edits, opened.picture.revision);
        made += found.edits.length;
      }
      this.told(made, missing);
    });
  }

  stop(): void {
    this.running?.abort();
  }

  private async run(work: (running: AbortController) => Promise<void>): Promise<void> {
    if (this.running !== null) return;
    const running = new AbortController();
    this.running = running;
    await this.studio.attempt(() => work(running));
    this.running = null;
    this.progress.value = null;
  }

  private told(made: number, missing: number): void {
    const left = missing === 0 ? "" : ` In ${counted(missing, "box", "boxes")} the model sees nothing.`;
    this.studio.tell("note", `${counted(made, "mask")} from boxes.${left}`);
  }

  /** What gives objects the masks that the model proposes for their boxes, and how many it has none for. */
  private async masked(
    { image }: Pick<Opened, "image">,
    objects: readonly StoredObject[],
    signal: AbortSignal,
  ): Promise<{ readonly edits: readonly Edit[]; readonly missing: number }> {
    const edits: Edit[] = [];
    for (let from = 0; from < objects.length; from += AT_ONCE) {
      const some = objects.slice(from, from + AT_ONCE);
      const drafts = some.map((object) => ({ ...boxed(BLANK, boxOf(object)), base: object }));
      const answers = await this.studio.api.predictAll(image.id, drafts.map(promptOf), signal);
      for (const [i, object] of some.entries()) {
        const [draft, answer] = [drafts[i], answers[i]];
        if (draft === undefined || answer === undefined) continue;
        const made = { ...draft, answer, chosen: answer.selected, isWaiting: false };
        const mask = maskOf(made);
        if (mask === null || mask.box.width === 0) continue;
        edits.push({ change: [object.id, { ...objectOf(made, mask, null), class: object.class }] });
      }
    }
    return { edits, missing: objects.length - edits.length };
  }
}
