/** Clicks and boxes become masks: the preview under the pointer, and the object that is being made. */

import { computed, signal } from "@preact/signals";

import type { Answer } from "../core/answer";
import { Problem, type StoredObject } from "../core/api";
import { isSame, subtract, union, type Mask } from "../core/mask";
import type { Click, Corners } from "../core/prompt";
import {
  BLANK,
  boxed,
  clicked,
  freshPromptOf,
  isEmpty,
  maskOf,
  objectOf,
  promptOf,
  refining,
  type Draft,
} from "./draft";
import { History } from "./history";
import { fromText, toText } from "./saved";
import { remember, remembered } from "./session";
import type { Studio } from "./studio";

/** What the model says of the place under the pointer. */
export interface Preview {
  readonly at: readonly [number, number];
  readonly answer: Answer;
  readonly chosen: number;
}

/** There is nothing that the model could answer. */
function isHandmade({ clicks, box }: Draft): boolean {
  return clicks.length === 0 && box === null;
}

/** Milliseconds that the pointer rests before it is asked what is under it. */
const REST = 8;

export class Prompting {
  private readonly history = new History<Draft | null>(null);
  readonly draft = this.history.now;
  readonly canUndo = this.history.canUndo;
  readonly canRedo = this.history.canRedo;
  readonly preview = signal<Preview | null>(null);
  /** The candidates that can be chosen: of the draft, or of what is under the pointer. */
  readonly choice = computed(() => {
    const draft = this.draft.value;
    if (draft === null) return this.preview.value;
    return draft.answer === null ? null : { answer: draft.answer, chosen: draft.chosen };
  });
  readonly mask = computed(() => {
    const draft = this.draft.value;
    return draft === null ? null : maskOf(draft);
  });

  private asking: AbortController | undefined;
  private asked: Promise<void> = Promise.resolve();
  private isAsking = false;
  private resting: number | undefined;
  private looking: AbortController | undefined;
  private wanted: readonly [number, number] | null = null;

  constructor(private readonly studio: Studio) {}

  /** The pointer is here: soon its mask is shown. */
  hover(at: readonly [number, number] | null): void {
    clearTimeout(this.resting);
    this.wanted = at;
    if (at === null || this.draft.peek() !== null || !this.studio.settings.isPreviewing.peek()) {
      this.preview.value = null;
      return;
    }
    this.resting = window.setTimeout(() => void this.look(), REST);
  }

  private async look(): Promise<void> {
    const open = this.studio.open.peek();
    const at = this.wanted;
    if (at === null || open === null || this.draft.peek() !== null || !this.studio.isReady.peek()) return;
    // What is asked about another place is of no use any more, and the server may leave it out.
    this.looking?.abort();
    const looking = new AbortController();
    this.looking = looking;
    try {
      const answer = await this.studio.api.predict(open.image.id, { points: [[...at, 1]] }, false, looking.signal);
      const isWanted = this.wanted === at && this.draft.peek() === null;
      if (isWanted && this.studio.open.peek()?.visit === open.visit) {
        this.preview.value = { at, answer, chosen: answer.selected };
      }
    } catch {
      // Nobody has asked for a preview.
    }
  }

  /** A click on the object, or beside it. */
  click(click: Click): void {
    if (this.studio.lacksFile()) return;
    const draft = this.draft.peek();
    const preview = this.preview.peek();
    const [x, y, label] = click;
    if (draft === null && label === 1 && preview?.at[0] === x && preview.at[1] === y) {
      // The answer is there already.
      const { answer, chosen } = preview;
      this.push({ ...BLANK, clicks: [click], answer, chosen });
      return;
    }
    this.push(clicked(draft ?? BLANK, click));
    this.askAgain();
  }

  box(box: Corners): void {
    if (this.studio.lacksFile()) return;
    this.push(boxed(this.draft.peek() ?? BLANK, box));
    this.askAgain();
  }

  /** A box whose mask is kept as soon as it is there, so that many are drawn in a row. */
  async keepBox(box: Corners): Promise<void> {
    const open = this.studio.open.peek();
    if (open === null || this.studio.lacksFile()) return;
    const kind = this.studio.settings.activeClass.peek();
    await this.studio.attempt(async () => {
      const answer = await this.studio.api.predict(open.image.id, promptOf(boxed(BLANK, box)));
      const draft = { ...boxed(BLANK, box), answer, chosen: answer.selected, isWaiting: false };
      const mask = maskOf(draft);
      if (mask === null || mask.box.width === 0) throw new Error("There is nothing in this box.");
      if (this.studio.open.peek()?.visit !== open.visit) return;
      await this.studio.edit(() => [{ add: objectOf(draft, mask, kind) }]);
    });
  }

  /** Takes one of the clicks back, by its place in the list. */
  dropClick(index: number): void {
    const draft = this.draft.peek();
    if (draft === null) return;
    const clicks = draft.clicks.filter((_, i) => i !== index);
    const next = { ...draft, clicks, answer: null, drawn: null, isWaiting: clicks.length > 0 || draft.box !== null };
    this.push(isEmpty(next) ? null : next);
    this.askAgain();
  }

  /** Corrects an object, or a mask that comes from elsewhere. */
  refine(base: StoredObject | null, seed: Mask): void {
    this.preview.value = null;
    this.history.begin(null);
    this.push(refining(base, seed));
    this.studio.settings.tool.value = "segment";
  }

  /** Asks once more, from a crop around the object. */
  lookCloser(): void {
    const draft = this.draft.peek();
    if (draft === null || isHandmade(draft)) return;
    this.push({ ...draft, isCloser: true, isWaiting: true, drawn: null });
    this.askAgain();
  }

  choose(index: number): void {
    const draft = this.draft.peek();
    const preview = this.preview.peek();
    const count = (draft === null ? preview?.answer : draft.answer)?.candidates.length ?? 0;
    if (index < 0 || index >= count) return;
    if (draft !== null) this.push({ ...draft, chosen: index, drawn: null });
    else if (preview !== null) this.preview.value = { ...preview, chosen: index };
  }

  /** The next larger or smaller candidate; they are in the order whole, part, subpart. */
  walk(steps: number): void {
    const choice = this.choice.peek();
    if (choice === null) return;
    const count = choice.answer.candidates.length;
    this.choose(Math.min(count - 1, Math.max(0, choice.chosen + steps)));
  }

  cycle(): void {
    const choice = this.choice.peek();
    if (choice !== null) this.choose((choice.chosen + 1) % choice.answer.candidates.length);
  }

  /** Changes the mask that is being made by hand; answers whether there is one. */
  paint(drawn: Mask, isErasing: boolean): boolean {
    const draft = this.draft.peek();
    if (draft === null) return false;
    const before = maskOf(draft);
    if (before === null) return !isErasing && this.pushDrawn(draft, drawn);
    return this.pushDrawn(draft, isErasing ? subtract(before, drawn) : union(before, drawn));
  }

  private pushDrawn(draft: Draft, drawn: Mask): boolean {
    this.push({ ...draft, drawn });
    return true;
  }

  private push(draft: Draft | null): void {
    clearTimeout(this.resting);
    this.preview.value = null;
    this.history.push(draft);
    this.remember();
  }

  undo(): boolean {
    return this.stepped(this.history.undo());
  }

  redo(): boolean {
    return this.stepped(this.history.redo());
  }

  private stepped(isDone: boolean): boolean {
    if (!isDone) return false;
    this.asking?.abort();
    this.remember();
    this.askAgain();
    return true;
  }

  /** Asks for what was not answered. */
  askAgain(): void {
    this.isAsking = true;
    const asked = this.ask().finally(() => {
      if (this.asked === asked) this.isAsking = false;
    });
    this.asked = asked;
  }

  private async ask(): Promise<void> {
    this.asking?.abort();
    const draft = this.draft.peek();
    const open = this.studio.open.peek();
    if (draft === null || open === null || !draft.isWaiting) return;
    const asking = new AbortController();
    this.asking = asking;
    const predict = this.studio.api.predict.bind(this.studio.api, open.image.id);
    const answer = await this.studio.attempt(() =>
      predict(promptOf(draft), draft.isCloser, asking.signal).catch((error: unknown) => {
        // The server keeps answers for a while; the clicks alone say the same.
        if (!(error instanceof Problem) || error.status !== 422 || draft.answer === null) throw error;
        return predict(freshPromptOf(draft), draft.isCloser, asking.signal);
      }),
    );
    if (answer === undefined || this.draft.peek() !== draft) return;
    if (draft.isCloser && !answer.isCloser && draft.answer !== null) {
      // The masks stay what they were.
      this.history.undo();
      this.studio.tell("note", "A closer look shows nothing more of this.");
      return;
    }
    this.history.amend({ ...draft, answer, chosen: answer.selected, isWaiting: false });
    this.remember();
    for (const warning of answer.warnings) this.studio.tell("note", warning);
  }

  /** Keeps what is being made as an object, once the mask is there. Answers whether nothing is left to be kept. */
  async keep(): Promise<boolean> {
    if (this.draft.peek()?.isWaiting === true) {
      // What was asked in vain is asked again.
      if (!this.isAsking) this.askAgain();
      await this.asked;
    }
    const draft = this.draft.peek();
    if (draft === null) return true;
    const mask = maskOf(draft);
    if (mask === null || draft.isWaiting) return false;
    if (mask.box.width === 0) {
      this.studio.tell("error", "The mask has no pixels.");
      return false;
    }
    const object = objectOf(draft, mask, this.studio.settings.activeClass.peek());
    const { base } = draft;
    // Nothing of it was changed.
    if (base !== null && isSame(mask, base.mask)) {
      this.clear();
      return true;
    }
    const isKept = await this.studio.edit(() => [base === null ? { add: object } : { change: [base.id, object] }]);
    if (isKept && this.draft.peek() === draft) this.clear();
    return isKept;
  }

  /** Gives up what is being made; undoing brings it back. */
  giveUp(): void {
    this.asking?.abort();
    this.push(null);
  }

  /** Nothing is being made, and nothing was. */
  clear(): void {
    this.asking?.abort();
    this.preview.value = null;
    this.history.begin(null);
    this.remember();
  }

  /** Something else was done since: what was given up before it is gone. */
  forget(): void {
    if (this.draft.peek() === null) this.history.begin(null);
  }

  private key(): string | null {
    const [project, open] = [this.studio.project.peek(), this.studio.open.peek()];
    return project === null || open === null ? null : `samara-studio/draft/${project.folder}/${open.picture.id}`;
  }

  /** So that a reload of the page in the middle loses nothing. */
  private remember(): void {
    const key = this.key();
    const draft = this.draft.peek();
    if (key !== null) remember(key, draft && toText(draft));
  }

  /** Leaves the picture; what is being made is found again on return. */
  keepForLater(): void {
    this.asking?.abort();
    clearTimeout(this.resting);
    this.remember();
    this.preview.value = null;
    this.wanted = null;
    this.history.begin(null);
  }

  /** What was being made of this picture before. */
  bringBack(): void {
    const [key, open] = [this.key(), this.studio.open.peek()];
    if (key === null || open === null) return;
    try {
      const text = remembered(key);
      const draft = text === null ? null : fromText(text, open.objects, [open.image.width, open.image.height]);
      if (draft === null) return;
      this.history.begin(null);
      this.history.push(draft);
    } catch {
      remember(key, null);
      return;
    }
    this.askAgain();
  }
}
