/** Keys: what they do, for the page and for its help. */

import type { Stage } from "../canvas/stage";
import type { ToolName } from "../state/settings";
import type { Studio } from "../state/studio";

export interface Context {
  readonly studio: Studio;
  readonly stage: Stage;
  readonly openDialog: (name: "help" | "export" | "import") => void;
}

interface Binding {
  /** As `KeyboardEvent.key`, after the modifiers: `Ctrl` (or Command), `Shift`, `Alt`. */
  readonly keys: readonly string[];
  readonly what: string;
  readonly group: string;
  /** Only while the canvas has the focus: Space and arrows move through the page elsewhere. */
  readonly onCanvas?: true;
  readonly run: ((context: Context, key: string) => unknown) | undefined;
}

const STEP = 4;
const LONG_STEP = 40;
const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function arrow({ studio, stage }: Context, key: string, length: number): void {
  const [dx, dy] = ARROWS[key.split("+").pop() ?? ""] ?? [0, 0];
  const { everything } = studio;
  if (!everything.isShown.peek()) stage.point([dx * length, dy * length]);
  else if (dy !== 0) everything.walk(dy < 0 ? "out" : "in");
  else everything.step(dx < 0 ? -1 : 1);
}

/** A digit chooses a candidate while a mask is made or shown under the pointer, and a class otherwise. */
function digit({ studio }: Context, key: string): void {
  const { draft, preview } = studio.prompting;
  const isChoosing = draft.peek() !== null || (preview.peek() !== null && studio.selection.peek().length === 0);
  if (isChoosing) studio.prompting.choose(Number(key) - 1);
  else labelBy(studio, Number(key));
}

function labelBy(studio: Studio, number: number): void {
  const kind = studio.classes.peek()[number - 1];
  if (kind !== undefined) void studio.label(kind.id);
}

const DRAWING: ReadonlySet<ToolName> = new Set(["brush", "eraser", "polygon"]);

async function enter({ studio, stage }: Context): Promise<void> {
  if (stage.finish()) return;
  if (studio.everything.isShown.peek()) await studio.everything.pick();
  else if (studio.prompting.draft.peek() !== null) await studio.prompting.keep();
  // What was drawn by hand is done: the next stroke begins another object.
  else if (DRAWING.has(studio.settings.tool.peek())) studio.select(null, false);
}

function escape({ studio, stage }: Context): void {
  if (studio.everything.progress.peek() !== null) studio.everything.clear();
  else if (studio.video.propagation.peek() !== null) studio.video.stop();
  else if (stage.cancel()) return;
  else if (studio.prompting.draft.peek() !== null) studio.prompting.giveUp();
  else studio.select(null, false);
}

function selectAll({ studio }: Context): unknown {
  if (studio.everything.isShown.peek()) return studio.everything.pickAll();
  studio.selected.value = new Set(studio.objects.peek().map(({ id }) => id));
  return undefined;
}

function refine({ studio }: Context): void {
  const [object] = studio.selection.peek();
  if (object !== undefined) studio.prompting.refine(object, object.mask);
}

function nextObject(studio: Studio, steps: 1 | -1): void {
  const objects = studio.objects.peek();
  const at = objects.findIndex(({ id }) => studio.selected.peek().has(id));
  const next = objects[(Math.max(at, steps < 0 ? 0 : -1) + steps + objects.length) % objects.length];
  if (next !== undefined) studio.select(next.id, false);
}

function size(by: number) {
  return ({ studio }: Context): void => {
    const { brush } = studio.settings;
    brush.value = Math.min(200, Math.max(1, Math.round(brush.peek() * by)));
  };
}

const tool =
  (name: "segment" | "select" | "brush" | "eraser" | "polygon" | "hand") =>
  ({ studio }: Context): void => {
    studio.settings.tool.value = name;
  };

export const BINDINGS: readonly Binding[] = [
  { keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], what: "Choose the candidate; with none to choose from: the class", group: "Masks", run: digit },
  { keys: ["0"], what: "No class", group: "Masks", run: ({ studio }) => studio.label(null) },
  { keys: ["Tab"], what: "The next candidate", group: "Masks", onCanvas: true, run: ({ studio }) => { studio.prompting.cycle(); } },
  { keys: ["z"], what: "Look closer: small things once more from a crop", group: "Masks", run: ({ studio }) => { studio.prompting.lookCloser(); } },
  { keys: ["Enter"], what: "Keep the mask, or let go of what was drawn by hand", group: "Masks", run: enter },
  { keys: ["Escape"], what: "Give it up, or select nothing", group: "Masks", run: escape },
  { keys: [" "], what: "Click where the keys point (Alt or Shift: beside the object)", group: "Canvas", onCanvas: true, run: ({ stage }) => { stage.press(false); } },
  { keys: ["Shift+ ", "Alt+ "], what: "Click beside the object", group: "Canvas", onCanvas: true, run: ({ stage }) => { stage.press(true); } },
  { keys: ["d"], what: "Press and hold, and let go: boxes and strokes by keys", group: "Canvas", onCanvas: true, run: ({ stage }) => { stage.hold(false); } },
  { keys: Object.keys(ARROWS), what: "Point at a place; from everything: walk through the masks", group: "Canvas", onCanvas: true, run: (context, key) => { arrow(context, key, STEP); } },
  { keys: Object.keys(ARROWS).map((key) => `Shift+${key}`), what: "The same in long steps", group: "Canvas", onCanvas: true, run: (context, key) => { arrow(context, key, LONG_STEP); } },
  { keys: ["+", "=", "Shift++"], what: "Zoom in", group: "Canvas", run: ({ stage }) => { stage.zoomIn(); } },
  { keys: ["-"], what: "Zoom out", group: "Canvas", run: ({ stage }) => { stage.zoomOut(); } },
  { keys: ["f"], what: "Show the whole picture", group: "Canvas", run: ({ stage }) => { stage.fit(); } },
  { keys: ["s"], what: "Segment: click or drag a box", group: "Tools", run: tool("segment") },
  { keys: ["v"], what: "Select objects", group: "Tools", run: tool("select") },
  { keys: ["b"], what: "Brush", group: "Tools", run: tool("brush") },
  { keys: ["e"], what: "Eraser", group: "Tools", run: tool("eraser") },
  { keys: ["p"], what: "Polygon", group: "Tools", run: tool("polygon") },
  { keys: ["h"], what: "Hand: move the picture", group: "Tools", run: tool("hand") },
  { keys: ["a"], what: "Find everything, and pick from it", group: "Tools", run: ({ studio }) => studio.everything.find() },
  { keys: ["["], what: "A smaller brush", group: "Tools", run: size(1 / 1.25) },
  { keys: ["]"], what: "A larger brush", group: "Tools", run: size(1.25) },
  { keys: ["Ctrl+z"], what: "Undo", group: "Objects", run: ({ studio, stage }) => stage.undo() || studio.undo() },
  { keys: ["Ctrl+Shift+Z", "Ctrl+y"], what: "Redo", group: "Objects", run: ({ studio }) => studio.redo() },
  { keys: ["Delete", "Backspace"], what: "Delete what is selected", group: "Objects", run: ({ studio }) => studio.remove() },
  { keys: ["r"], what: "Refine the selected object with clicks", group: "Objects", run: refine },
  { keys: ["o"], what: "Select the next object", group: "Objects", run: ({ studio }) => { nextObject(studio, 1); } },
  { keys: ["Shift+O"], what: "Select the object before", group: "Objects", run: ({ studio }) => { nextObject(studio, -1); } },
  { keys: ["m"], what: "Masks from boxes: of the selected objects, or of all that are boxes", group: "Objects", run: ({ studio }) => studio.boxes.make() },
  { keys: ["Shift+m"], what: "Masks from the boxes of all pictures", group: "Objects", run: ({ studio }) => studio.boxes.makeAll() },
  { keys: ["u"], what: "Make one of the selected objects", group: "Objects", run: ({ studio }) => studio.combine("union") },
  { keys: ["x"], what: "Take the other selected objects from the lowest", group: "Objects", run: ({ studio }) => studio.combine("subtract") },
  { keys: ["Ctrl+]"], what: "Raise the object", group: "Objects", run: ({ studio }) => studio.lift(1) },
  { keys: ["Ctrl+["], what: "Lower the object", group: "Objects", run: ({ studio }) => studio.lift(-1) },
  { keys: ["Ctrl+a"], what: "Select all objects, or pick all masks of everything", group: "Objects", run: selectAll },
  { keys: ["Ctrl+c"], what: "Copy objects", group: "Objects", run: ({ studio }) => { studio.clipboard.copy(); } },
  // The browser tells of it with what there is to be pasted.
  { keys: ["Ctrl+v"], what: "Paste objects, or a mask from elsewhere", group: "Objects", run: undefined },
  { keys: ["n"], what: "Copy to the next picture", group: "Objects", run: ({ studio }) => studio.clipboard.copyToNext() },
  { keys: ["PageDown", "."], what: "Next picture, or frame of a video", group: "Pictures", run: ({ studio }) => studio.go(1) },
  { keys: ["PageUp", ","], what: "Picture or frame before", group: "Pictures", run: ({ studio }) => studio.go(-1) },
  { keys: ["Shift+PageDown"], what: "Next picture, past the frames", group: "Pictures", run: ({ studio }) => studio.goToPicture(1) },
  { keys: ["Shift+PageUp"], what: "Picture before, past the frames", group: "Pictures", run: ({ studio }) => studio.goToPicture(-1) },
  { keys: ["t"], what: "Follow the objects through the next frames", group: "Videos", run: ({ studio }) => studio.video.propagate(1) },
  { keys: ["Shift+t"], what: "Follow them back", group: "Videos", run: ({ studio }) => studio.video.propagate(-1) },
  { keys: ["k"], what: "Play or pause", group: "Videos", run: ({ studio }) => studio.video.play() },
  { keys: ["Shift+>", "Shift+."], what: "Next keyframe", group: "Videos", run: ({ studio }) => studio.video.goToKeyframe(1) },
  { keys: ["Shift+<", "Shift+,"], what: "Keyframe before", group: "Videos", run: ({ studio }) => studio.video.goToKeyframe(-1) },
  { keys: ["c"], what: "Checked, and on to the next picture", group: "Pictures", run: ({ studio }) => studio.checkAndGoOn() },
  { keys: ["Shift+c"], what: "Checked, or not any more", group: "Pictures", run: ({ studio }) => studio.check(studio.open.peek()?.picture.checked !== true) },
  { keys: ["g"], what: "The next picture that is not checked", group: "Pictures", run: ({ studio }) => studio.goToNextUnchecked() },
  { keys: ["?", "Shift+?", "F1"], what: "This help", group: "Pictures", run: ({ openDialog }) => { openDialog("help"); } },
  ...Array.from({ length: 9 }, (_, i): Binding => ({
    keys: [`Shift+Digit${i + 1}`],
    what: "The class, also while there is a choice",
    group: "Masks",
    run: ({ studio }) => { labelBy(studio, i + 1); },
  })),
];

const BY_KEY = new Map(BINDINGS.flatMap((binding) => binding.keys.map((key) => [key.toLowerCase(), binding] as const)));

/** What is told of a key that was pressed. */
type Pressed = Pick<KeyboardEvent, "key" | "code" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">;

function nameOf(event: Pressed): string {
  const isDigit = event.shiftKey && event.code.startsWith("Digit");
  const key = isDigit ? event.code : event.key;
  const modifiers = [
    (event.ctrlKey || event.metaKey) && "Ctrl",
    event.altKey && "Alt",
    event.shiftKey && "Shift",
  ].filter((modifier) => modifier !== false);
  return [...modifiers, key].join("+");
}

/** What a key does, also while Caps Lock is on. */
export function bindingOf(event: Pressed): Binding | undefined {
  return BY_KEY.get(nameOf(event).toLowerCase());
}

/** Whether the keys write into something. */
export function isWriting(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  const isField = target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
  const isText = target instanceof HTMLInputElement && !["range", "checkbox", "color", "button"].includes(target.type);
  return isField || isText || target.closest("dialog") !== null;
}

/** Space and Enter press a button that has the focus; a candidate is chosen by Space and kept by Enter. */
function isPressing(event: KeyboardEvent): boolean {
  const isPress = event.key === " " || event.key === "Enter";
  if (!isPress || !(event.target instanceof HTMLElement)) return false;
  const button = event.target.closest("button, a, summary, input");
  return button !== null && !(event.key === "Enter" && button.matches("[role=radio]"));
}

/** Answers whether the key did something. */
export function pressed(event: KeyboardEvent, context: Context): boolean {
  if (isWriting(event.target) && event.key === "Escape" && event.target instanceof HTMLElement) event.target.blur();
  if (isWriting(event.target) || isPressing(event)) return false;
  const name = nameOf(event);
  const binding = bindingOf(event);
  if (binding?.run === undefined) return false;
  const isOnCanvas = event.target instanceof HTMLCanvasElement || event.target === document.body;
  if (binding.onCanvas === true && !isOnCanvas) return false;
  // A choice is left by Tab when there is none.
  if (name === "Tab" && context.studio.prompting.choice.peek() === null) return false;
  void binding.run(context, name);
  return true;
}
