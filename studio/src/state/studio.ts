/** What the page knows and does: the project, the picture that is open, and what is drawn on it. */

import { batch, computed, signal } from "@preact/signals";

import {
  Problem,
  Unreachable,
  type Api,
  type Applied,
  type Class,
  type Edit,
  type NewObject,
  type Opened,
  type Picture,
  type ProjectInfo,
  type StoredObject,
} from "../core/api";
import { isSame, subtract, union, type Mask } from "../core/mask";
import { Ahead } from "./ahead";
import { Assessment } from "./assessment";
import { Boxes } from "./boxes";
import { Clipboard } from "./clipboard";
import { Everything } from "./everything";
import { Exchange } from "./exchange";
import { Prompting } from "./prompting";
import { Queue } from "./queue";
import { classBefore } from "./session";
import { Saving } from "./saving";
import { Settings } from "./settings";
import { Training } from "./training";
import { Video } from "./video";

/** A picture with its objects as they were last told. */
export interface Open extends Opened {
  /** Counts how often a file was opened, so that what was drawn of another is not shown. */
  readonly visit: number;
  /** The file is gone: there are only its masks. */
  readonly isMissing: boolean;
}

export interface Message {
  readonly kind: "error" | "note";
  readonly text: string;
}

/** Milliseconds for which a note is shown. */
const NOTED = 6000;

/** An object of which nothing is known but its mask. */
export const NEW = { class: null, predicted_iou: null, prompt: null, attributes: {} } as const;

/** The same object with a mask that was drawn by hand, of which the model has said nothing. */
function drawnAs(object: NewObject, mask: Mask): NewObject {
  return { ...object, mask, predicted_iou: null, prompt: null };
}

/** Without pixels it is removed. */
function replacing(object: StoredObject, mask: Mask): Edit {
  return mask.box.width === 0 ? { remove: object.id } : { change: [object.id, drawnAs(object, mask)] };
}

export class Studio {
  readonly settings = new Settings();
  readonly project = signal<ProjectInfo | null>(null);
  readonly classes = signal<readonly Class[]>([]);
  readonly open = signal<Open | null>(null);
  readonly opening = signal<number | null>(null);
  /** The picture that was to be opened, and could not be. */
  readonly failed = signal<number | null>(null);
  readonly selected = signal<ReadonlySet<number>>(new Set());
  readonly message = signal<Message | null>(null);
  readonly isReachable = signal(true);
  /** The server wants a token, or another one. */
  readonly needsToken = signal(false);
  readonly exchange: Exchange;
  readonly hidden = signal<ReadonlySet<number>>(new Set());
  readonly queue = new Queue();
  readonly saving: Saving;
  readonly ahead: Ahead;
  readonly prompting: Prompting;
  readonly everything: Everything;
  readonly assessment: Assessment;
  readonly boxes: Boxes;
  readonly clipboard: Clipboard;
  readonly video: Video;
  readonly training: Training;

  readonly objects = computed<readonly StoredObject[]>(() => this.open.value?.objects ?? []);
  readonly selection = computed(() => this.objects.value.filter(({ id }) => this.selected.value.has(id)));
  /** What a stroke of the brush changes: the mask that is being made, or the lowest of what is selected. */
  readonly target = computed(() => this.prompting.draft.value ?? this.selection.value[0] ?? null);
  /** Of what is being made, and of what comes next. */
  readonly nextColour = computed(() => {
    const base = this.prompting.draft.value?.base;
    return this.colourOf({ class: base?.class ?? this.settings.activeClass.value });
  });
  readonly isReady = computed(() => {
    const open = this.open.value;
    return open?.isMissing === false && this.ahead.embeddings.value.get(open.image.id) === "ready";
  });

  private visits = 0;
  /** Of which picture and revision it was told that somebody else has made it. */
  private warned = "";

  constructor(readonly api: Api) {
    this.saving = new Saving(this);
    this.ahead = new Ahead(this);
    this.prompting = new Prompting(this);
    this.everything = new Everything(this);
    this.assessment = new Assessment(this);
    this.boxes = new Boxes(this);
    this.exchange = new Exchange(this);
    this.clipboard = new Clipboard(this);
    this.video = new Video(this);
    this.training = new Training(this);
  }

  /** Runs something; what goes wrong is told, and nothing else happens. */
  async attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      const done = await work();
      this.isReachable.value = true;
      return done;
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") return undefined;
      this.isReachable.value = !(error instanceof Unreachable);
      if (error instanceof Problem && error.status === 401) {
        // The dialog that asks for it says why.
        this.needsToken.value = true;
        return undefined;
      }
      this.tell("error", error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  /** Errors stay until they are closed, notes for a while. */
  tell(kind: Message["kind"], text: string): void {
    const message = { kind, text };
    this.message.value = message;
    if (kind === "error") return;
    setTimeout(() => {
      if (this.message.peek() === message) this.message.value = null;
    }, NOTED);
  }

  /** Reads the project, and opens the picture that is wanted, or else the first that is not checked. */
  async start(wanted: string | null): Promise<void> {
    await this.attempt(async () => {
      const [project, pictures] = await Promise.all([this.api.project(), this.api.pictures()]);
      batch(() => {
        this.project.value = project;
        this.classes.value = project.classes;
        this.queue.pictures.value = pictures;
        this.settings.activeClass.value = classBefore(this);
      });
      const isFound = wanted !== null && (await this.showNamed(wanted));
      const first = this.queue.firstOf(pictures);
      if (!isFound && first !== undefined) await this.show(first.id);
      if (wanted !== null && !isFound) this.tell("note", `There is no picture ${wanted} here.`);
    });
  }

  /** Opens the picture of a path, or the frame of a video. Answers whether there is one. */
  async showNamed(path: string): Promise<boolean> {
    const found = this.queue.named(path);
    if (found?.frame !== undefined) await this.video.show(found.picture.id, found.frame);
    else if (found !== undefined) await this.show(found.picture.id);
    return found !== undefined;
  }

  async reload(): Promise<void> {
    await this.attempt(async () => {
      const [project, pictures] = await Promise.all([this.api.project(), this.api.pictures()]);
      this.project.value = project;
      this.classes.value = project.classes;
      this.queue.pictures.value = pictures;
      this.ahead.forget();
      void this.video.reload();
      const open = this.open.peek();
      if (open === null) return;
      const now = this.queue.find(open.picture.id);
      if (now?.revision !== open.picture.revision || now.is_gone !== open.isMissing) await this.refresh();
    });
  }

  /** Opens a picture; one that was made ready is there at once. */
  async show(id: number): Promise<void> {
    const picture = this.queue.find(id);
    if (!this.isReachable.peek() && this.saving.count.peek() > 0) {
      this.tell("note", "What was done here waits for the server; this picture stays open until it is saved.");
      return;
    }
    this.message.value = null;
    this.failed.value = null;
    if (picture !== undefined) this.video.leave();
    if (picture !== undefined && picture.frames !== null) {
      await this.video.show(id);
      return;
    }
    this.prompting.keepForLater();
    this.opening.value = id;
    const known = this.ahead.find(id, picture?.revision);
    const opened = known ? { ...known, isMissing: false } : await this.attempt(() => this.read(id));
    if (this.opening.peek() !== id) return;
    this.opening.value = null;
    if (opened === undefined) {
      // The next one is the one after it, and nothing is drawn on the one before.
      if (this.isReachable.peek()) batch(() => { this.open.value = null; this.failed.value = id; });
      return;
    }
    batch(() => {
      this.open.value = { ...opened, visit: ++this.visits };
      this.selected.value = new Set();
      this.hidden.value = new Set();
      this.everything.clear();
      this.queue.update(opened.picture);
      this.prompting.bringBack();
    });
    if (this.queue.show.peek() === "suspect") this.selected.value = new Set(opened.objects.filter((object) => this.assessment.isSuspect(object)).map(({ id }) => id));
    for (const warning of opened.image.warnings) this.tell("note", `${opened.picture.path}: ${warning}`);
    // The file may be another one since, and its embedding comes before those of others.
    if (known !== undefined) void this.refresh();
    void this.ahead.prepare();
    // The list is as old as the last look into the folder.
    if (opened.picture.is_gone !== opened.isMissing) void this.attempt(() => this.api.scan());
  }

  /** A picture with its objects; of one whose file is gone, the objects alone. */
  private async read(id: number): Promise<Omit<Open, "visit">> {
    try {
      return { ...(await this.api.open(id)), isMissing: false };
    } catch (error) {
      const picture = this.queue.find(id);
      const isGone = error instanceof Problem && error.status === 404;
      if (!isGone || picture === undefined || picture.width === 0) throw error;
      const kept = await this.api.kept(id);
      const { sha256, width, height } = kept.picture;
      const image = { id: sha256 ?? "", width, height, warnings: [] };
      return { ...kept, image, depth: null, isMissing: true };
    }
  }

  /** Answers whether the file of the open picture is gone, and tells it: the model has nothing to look at. */
  lacksFile(): boolean {
    const open = this.open.peek();
    if (open?.isMissing !== true) return false;
    this.tell("error", `The file ${open.picture.path} is gone: without it the model sees nothing.`);
    return true;
  }

  /** The objects of the open picture as they are now; what is being drawn stays. */
  async refresh(): Promise<void> {
    const open = this.open.peek();
    if (open === null) return;
    const opened = await this.attempt(() => this.read(open.picture.id));
    const now = this.open.peek();
    if (opened === undefined || now?.picture.id !== open.picture.id) return;
    // What was saved meanwhile is newer.
    if (opened.picture.revision < now.picture.revision) return;
    const isSame = opened.image.id === open.image.id && opened.isMissing === open.isMissing;
    this.open.value = { ...opened, visit: isSame ? open.visit : ++this.visits };
    this.queue.update(opened.picture);
  }

  /**
   * Does edits to the open picture, as one step that is undone as one. They are made when those before them are kept.
   * Answers whether they are kept.
   */
  edit(make: () => readonly Edit[], mask: Mask | null = null): Promise<boolean> {
    let edits: readonly Edit[] | undefined;
    return this.saving.save(async (open) => {
      edits ??= this.video.placing(make());
      if (edits.length === 0) return null;
      const applied = await this.api.edit(open.picture.id, edits, open.picture.revision);
      this.prompting.forget();
      return applied;
    }, mask);
  }

  apply(open: Open, applied: Applied): void {
    const { revision, checked, objects, can_undo, last_author, can_redo } = applied;
    if (applied.picture !== open.picture.id) return;
    const before = new Set(open.objects.map(({ id }) => id));
    const added = objects.filter(({ id }) => !before.has(id));
    const ids = new Set(objects.map(({ id }) => id));
    const lowest = objects.flatMap(({ predicted_iou }) => predicted_iou ?? []);
    const picture: Picture = {
      ...open.picture,
      revision,
      checked,
      objects: objects.length,
      classes: [...new Set(objects.flatMap((object) => object.class ?? []))],
      lowest_iou: lowest.length === 0 ? null : Math.min(...lowest),
    };
    batch(() => {
      this.queue.update(picture);
      if (this.open.peek()?.picture.id !== picture.id) return;
      this.open.value = { ...open, picture, objects, can_undo, last_author, can_redo };
      // What is new is selected if it was drawn by hand: the next stroke goes on with it.
      const drawn = added.filter(({ predicted_iou }) => predicted_iou === null).map(({ id }) => id);
      const kept = [...this.selected.peek()].filter((id) => ids.has(id));
      this.selected.value = new Set(drawn.length > 0 ? drawn : kept);
    });
  }

  /** Something has changed a picture: this window, or another. */
  changed(picture: Picture): void {
    this.queue.update(picture);
    this.video.changed(picture);
    this.ahead.changed(picture);
    const open = this.open.peek();
    if (open?.picture.id !== picture.id || this.saving.count.peek() > 0) return;
    if (picture.revision > open.picture.revision) void this.refresh();
  }

  async undo(): Promise<void> {
    const open = this.open.peek();
    if (this.prompting.undo() || open?.can_undo !== true) return;
    const [by, me] = [open.last_author, this.project.peek()?.author];
    const place = `${open.picture.id}/${open.picture.revision}`;
    if (by !== null && me !== undefined && by !== me && this.warned !== place) {
      this.warned = place;
      this.tell("note", `The last change here is ${by}'s. Once more takes it back.`);
      return;
    }
    await this.step("undo");
  }

  async redo(): Promise<void> {
    if (this.prompting.redo() || this.open.peek()?.can_redo !== true) return;
    await this.step("redo");
  }

  private async step(way: "undo" | "redo"): Promise<void> {
    const before = this.open.peek()?.picture;
    await this.saving.save((open) => this.api.step(open.picture.id, way, open.picture.revision), null, true);
    const now = this.open.peek()?.picture;
    if (before === undefined || now?.id !== before.id || now.checked === before.checked) return;
    this.tell("note", now.checked ? "The picture is checked again." : "The picture is not checked any more.");
  }

  async check(checked: boolean): Promise<boolean> {
    return this.edit(() => [{ check: checked }]);
  }

  /** Says that this picture is done, and goes to the next that is not. */
  async checkAndGoOn(): Promise<void> {
    const open = this.open.peek();
    if (!(await this.prompting.keep())) return;
    if (open?.picture.checked === false && !(await this.check(true))) return;
    await this.goToNextUnchecked();
  }

  async goToNextUnchecked(): Promise<void> {
    const next = this.queue.nextUnchecked(this.openInQueue());
    if (next === undefined) this.tell("note", "All pictures are checked.");
    else await this.show(next.id);
  }

  /** The next frame of a video, or the next picture. */
  async go(steps: number): Promise<void> {
    if (!(await this.video.step(steps))) await this.goToPicture(steps);
  }

  async goToPicture(steps: number): Promise<void> {
    const next = this.queue.beside(this.openInQueue(), steps);
    if (next !== undefined) await this.show(next.id);
  }

  /** The picture of the queue that is open or will be: of a frame, its video. */
  openInQueue(): number | undefined {
    const [picture, next] = [this.open.value?.picture, this.opening.value];
    if (next !== null && this.queue.find(next) !== undefined) return next;
    return this.failed.value ?? picture?.video ?? picture?.id;
  }

  /** The class of what comes next, and of what is selected. */
  async label(kind: number | null): Promise<void> {
    this.settings.activeClass.value = kind;
    await this.edit(() => {
      const others = this.selection.peek().filter((object) => object.class !== kind);
      return others.map((object) => ({ change: [object.id, { ...object, class: kind }] }));
    });
  }

  async remove(): Promise<void> {
    await this.edit(() => this.selection.peek().map(({ id }) => ({ remove: id })));
  }

  async setAttributes(object: StoredObject, attributes: Readonly<Record<string, string>>): Promise<void> {
    await this.edit(() => [{ change: [object.id, { ...object, attributes }] }]);
  }

  /** One step nearer to the eye, or farther from it. */
  async lift(steps: 1 | -1): Promise<void> {
    await this.edit(() => {
      const [object] = this.selection.peek();
      const objects = this.objects.peek();
      const other = object && objects[objects.indexOf(object) + steps];
      if (object === undefined || other === undefined) return [];
      if (object.position === other.position) return [{ move: [object.id, other.position + steps] }];
      return [{ move: [object.id, other.position] }, { move: [other.id, object.position] }];
    });
  }

  /** Makes one object of those that are selected, or takes the others from the lowest. */
  async combine(way: "union" | "subtract"): Promise<void> {
    if (this.selection.peek().length < 2) {
      this.tell("note", "Select two objects or more: with Shift, or Ctrl+A.");
      return;
    }
    await this.edit(() => {
      const [first, ...others] = this.selection.peek();
      if (first === undefined || others.length === 0) return [];
      const joined = way === "union" ? union : subtract;
      const mask = others.reduce((all, { mask }) => joined(all, mask), first.mask);
      if (way === "subtract" && isSame(mask, first.mask)) throw new Error("The objects share no pixel: there is nothing to subtract.");
      if (mask.box.width === 0) throw new Error("Nothing would be left of the object.");
      const remove = way === "union" ? others.map(({ id }) => ({ remove: id })) : [];
      return [{ change: [first.id, drawnAs(first, mask)] }, ...remove];
    });
  }

  /** Adds what was drawn by hand to what is selected or takes it away; with nothing selected it is a new object. */
  async paint(drawn: Mask, isErasing: boolean): Promise<void> {
    if (this.prompting.paint(drawn, isErasing)) return;
    const make = (): readonly Edit[] => {
      const [object] = this.selection.peek();
      if (object !== undefined) {
        return [replacing(object, isErasing ? subtract(object.mask, drawn) : union(object.mask, drawn))];
      }
      if (isErasing || drawn.box.width === 0) return [];
      return [{ add: { ...NEW, mask: drawn, class: this.settings.activeClass.peek() } }];
    };
    await this.edit(make, isErasing ? null : drawn);
  }

  /** Another mask of an object, made by hand; without pixels it is removed. */
  async replace(object: StoredObject, mask: Mask): Promise<void> {
    await this.edit(() => [replacing(object, mask)]);
  }

  /** New objects, drawn by hand or copied. */
  async add(objects: readonly NewObject[]): Promise<boolean> {
    return this.edit(() => objects.map((add) => ({ add })));
  }

  async addClass(name: string, colour: string): Promise<void> {
    const added = await this.attempt(() => this.api.addClass(name.trim(), colour));
    if (added === undefined) return;
    this.classes.value = [...this.classes.peek().filter(({ id }) => id !== added.id), added];
    await this.label(added.id);
  }

  async changeClass(kind: Class): Promise<void> {
    const changed = await this.attempt(() => this.api.changeClass(kind));
    if (changed === undefined) return;
    this.classes.value = this.classes.peek().map((before) => (before.id === changed.id ? changed : before));
  }

  async removeClass(id: number): Promise<void> {
    const isGone = await this.attempt(() => this.api.removeClass(id).then(() => true));
    if (isGone === undefined) return;
    const name = this.classes.peek().find((kind) => kind.id === id)?.name ?? "";
    this.tell("note", `The class ${name} is removed. A new one of this name brings it back.`);
    this.classes.value = this.classes.peek().filter((kind) => kind.id !== id);
    if (this.settings.activeClass.peek() === id) this.settings.activeClass.value = null;
  }

  select(id: number | null, isAdding: boolean): void {
    const before = this.selected.peek();
    if (id === null) this.selected.value = isAdding ? before : new Set();
    else if (!isAdding) this.selected.value = new Set([id]);
    else this.selected.value = new Set(before.has(id) ? [...before].filter((other) => other !== id) : [...before, id]);
  }

  classOf(object: Pick<NewObject, "class">): Class | undefined {
    return this.classes.value.find(({ id }) => id === object.class);
  }

  colourOf(object: Pick<NewObject, "class">): string {
    return this.classOf(object)?.colour ?? "#4f9dff";
  }
}
