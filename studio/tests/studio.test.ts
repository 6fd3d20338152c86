import { describe, expect, it, vi } from "vitest";

import { Brush } from "../src/canvas/tools/brush";
import { Polygon } from "../src/canvas/tools/polygon";
import { Segment } from "../src/canvas/tools/segment";
import { select } from "../src/canvas/tools/select";
import { Api, type Applied, type Picture, type StoredObject } from "../src/core/api";
import { stroke } from "../src/core/mask";
import { encode } from "../src/core/rle";
import { themeAfter, type Theme } from "../src/state/settings";
import { Studio } from "../src/state/studio";

const SIZE = [30, 20] as const;
const PICTURE: Picture = {
  ...{ id: 1, path: "a.jpg", sha256: "aa", width: 30, height: 20, checked: false, is_gone: false, is_changed: false },
  ...{ objects: 1, revision: 1, classes: [], lowest_iou: null, frames: null, rate: null, video: null, frame: null },
};

function object(radius: number, rest: Partial<StoredObject> = {}): StoredObject {
  const mask = stroke(SIZE, [[15, 10]], radius);
  return { id: 3, position: 1, author: "me", mask, class: null, predicted_iou: null, prompt: null, attributes: {}, track: null, ...rest };
}

/** A studio with an open picture, and a server that answers as is told. */
function opened(objects: readonly StoredObject[], answers: Readonly<Record<string, unknown>> = {}): Studio {
  const call = (input: RequestInfo | URL): Promise<Response> => {
    const path = Object.keys(answers).find((end) => new Request(input).url.endsWith(end));
    const body = path === undefined ? { detail: "not here" } : answers[path];
    return Promise.resolve(new Response(JSON.stringify(body), { status: path === undefined ? 404 : 200 }));
  };
  const studio = new Studio(new Api("http://localhost:8765", undefined, call));
  studio.classes.value = [
    { id: 7, name: "cup", colour: "#e69f00" },
    { id: 8, name: "table", colour: "#56b4e9" },
  ];
  const image = { id: "aa", width: 30, height: 20, warnings: [] };
  const steps = { can_undo: true, last_author: "me", can_redo: true };
  studio.open.value = { picture: PICTURE, image, objects, ...steps, depth: null, visit: 1, isMissing: false };
  studio.queue.pictures.value = [PICTURE];
  return studio;
}

describe("hints", () => {
  it("are those of the tool that is in the hand, and of what is there", () => {
    const studio = opened([object(5, { class: 7 })]);
    const [segment, brush, eraser, polygon] = [new Segment(), new Brush(false), new Brush(true), new Polygon()];
    expect(segment.hint(studio)).toContain("The model reads the picture");
    studio.ahead.embeddings.value = new Map([["aa", "ready"]]);
    expect(segment.hint(studio)).toContain("Click on something");
    expect(brush.hint(studio)).toContain("begins a new object");
    expect(eraser.hint(studio)).toContain("select an object first");
    expect(polygon.hint(studio)).toContain("corners of a new object");
    expect(select.hint(studio)).toContain("Click on an object");
    studio.select(3, false);
    expect(brush.hint(studio)).toContain("The brush changes the selected object (cup)");
    expect(eraser.hint(studio)).toContain("The eraser changes the selected object (cup)");
    expect(polygon.hint(studio)).toContain("Drag a corner");
    expect(select.hint(studio)).toContain("Delete");
    const [first] = studio.objects.peek();
    if (first !== undefined) studio.prompting.refine(first, first.mask);
    expect(segment.hint(studio)).toContain("is refined");
    expect(brush.hint(studio)).toContain("the mask that is being made");
  });
});

describe("the colour of what is made", () => {
  it("is that of the class that comes next, or of the object that is corrected", () => {
    const studio = opened([object(5, { class: 8 })]);
    expect(studio.nextColour.value).toBe(studio.colourOf({ class: null }));
    studio.settings.activeClass.value = 7;
    expect(studio.nextColour.value).toBe("#e69f00");
    const [first] = studio.objects.peek();
    if (first !== undefined) studio.prompting.refine(first, first.mask);
    expect(studio.nextColour.value).toBe("#56b4e9");
  });
});

describe("an assessment", () => {
  it("is of a mask: another one of the same object has none", async () => {
    const before = object(5);
    const studio = opened([before], { "/v1/quality": { masks: [{ estimate: 0.6 }] } });
    await studio.assessment.make();
    expect(studio.assessment.of(before)).toBe(0.6);
    expect(studio.assessment.of(object(5))).toBe(0.6);
    expect(studio.assessment.of(object(6))).toBeUndefined();
    expect(studio.assessment.of(object(5, { id: 4 }))).toBeUndefined();
  });
});

describe("undo", () => {
  it("tells when the picture is not checked any more", async () => {
    const after: Applied = { picture: 1, revision: 3, objects: [], checked: false, can_undo: true, last_author: "me", can_redo: true };
    const studio = opened([], { "/undo": after, "/redo": { ...after, checked: true } });
    await studio.undo();
    expect(studio.message.peek()).toBeNull();
    await studio.redo();
    expect(studio.message.peek()?.text).toBe("The picture is checked again.");
    await studio.undo();
    expect(studio.message.peek()?.text).toBe("The picture is not checked any more.");
  });
});

describe("a picture whose file is gone", () => {
  it("is shown with the objects that are kept", async () => {
    const { mask, ...rest } = object(5);
    const picture = { ...PICTURE, revision: 4, checked: true };
    const kept = { picture, objects: [{ ...rest, mask: encode(mask) }], can_undo: true, last_author: "me", can_redo: false };
    const studio = opened([], { "/pictures/1": kept, "/scan": {} });
    await studio.show(1);
    const open = studio.open.peek();
    expect(open).toMatchObject({ isMissing: true, picture: { revision: 4, checked: true }, image: { width: 30, height: 20 } });
    expect(open?.objects.map((one) => one.mask)).toEqual([mask]);
    studio.prompting.click([1, 1, 1]);
    expect(studio.prompting.draft.peek()).toBeNull();
    expect(studio.message.peek()?.text).toContain("a.jpg is gone");
  });

  it("that was never read is not shown, and is named", async () => {
    const studio = opened([]);
    studio.queue.pictures.value = [{ ...PICTURE, width: 0, height: 0 }];
    await studio.show(1);
    expect(studio.open.peek()).toBeNull();
    expect(studio.openInQueue()).toBe(1);
    expect(studio.message.peek()).toEqual({ kind: "error", text: "not here" });
  });
});

it("the first change of the theme is seen, and all themes are in the round", () => {
  for (const [isDark, round] of [
    [false, ["dark", "light", "system"]],
    [true, ["light", "dark", "system"]],
  ] as const) {
    let theme: Theme = "system";
    const seen = round.map(() => (theme = themeAfter(theme, isDark)));
    expect(seen).toEqual(round);
  }
});

describe("an edit", () => {
  it("that the server did not hear is sent again, also when nothing else shows that it is back", async () => {
    vi.useFakeTimers();
    let calls = 0;
    const after: Applied = { picture: 1, revision: 2, objects: [], checked: true, can_undo: true, last_author: "me", can_redo: false };
    const call = (): Promise<Response> => (++calls < 3 ? Promise.reject(new TypeError("network")) : Promise.resolve(Response.json(after)));
    const studio = opened([]);
    const away = new Studio(new Api("http://localhost:8765", undefined, call));
    away.open.value = studio.open.peek();
    away.queue.pictures.value = [PICTURE];
    const checked = away.check(true);
    await vi.advanceTimersByTimeAsync(100);
    expect([away.saving.count.peek(), away.isReachable.peek()]).toEqual([1, false]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await checked).toBe(true);
    expect([away.saving.count.peek(), away.isReachable.peek(), calls]).toEqual([0, true, 3]);
    expect(away.open.peek()?.picture.checked).toBe(true);
    vi.useRealTimers();
  });

  it("of another person is not undone unasked", async () => {
    const after: Applied = { picture: 1, revision: 3, objects: [], checked: false, can_undo: false, last_author: null, can_redo: true };
    const studio = opened([], { "/undo": after });
    const open = studio.open.peek();
    studio.open.value = open && { ...open, last_author: "ben" };
    studio.project.value = { name: "p", folder: "/p", author: "anna", model: "lite", classes: [], formats: [] };
    await studio.undo();
    expect(studio.message.peek()?.text).toBe("The last change here is ben's. Once more takes it back.");
    expect(studio.open.peek()?.picture.revision).toBe(PICTURE.revision);
    await studio.undo();
    expect(studio.open.peek()?.picture.revision).toBe(3);
  });
});
