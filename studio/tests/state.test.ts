import { describe, expect, it } from "vitest";

import type { Answer, Candidate } from "../src/core/answer";
import type { Picture, StoredObject } from "../src/core/api";
import { area, has, stroke, type Mask } from "../src/core/mask";
import { BLANK, boxed, clicked, maskOf, objectOf, promptOf, refining, type Draft } from "../src/state/draft";
import { treeOf } from "../src/state/everything";
import { History } from "../src/state/history";
import { Queue } from "../src/state/queue";
import { fromText, toText } from "../src/state/saved";
import { hashOf, pictureOf } from "../src/state/session";

const SIZE = [30, 20] as const;

function disc(x: number, y: number, radius: number): Mask {
  return stroke(SIZE, [[x, y]], radius);
}

function candidate(index: number, mask: Mask): Candidate {
  return {
    index,
    mask,
    predicted_iou: 0.9,
    match_probability: 0.5,
    expected_iou: 0.8,
    stability_score: 0.9,
    granularity: (["whole", "part", "subpart"] as const)[index] ?? null,
  };
}

const ANSWER: Answer = {
  id: "a",
  candidates: [candidate(0, disc(10, 10, 8)), candidate(1, disc(10, 10, 5)), candidate(2, disc(10, 10, 2))],
  selected: 1,
  isCloser: false,
  reason: "highest expected IoU",
  warnings: [],
};

const ANSWERED: Draft = { ...BLANK, clicks: [[10.5, 10.5, 1]], answer: ANSWER, chosen: 1 };

describe("steps", () => {
  it("go back and forth, and a new one forgets what was undone", () => {
    const history = new History(0);
    expect(history.undo()).toBe(false);
    for (const step of [1, 2, 3]) history.push(step);
    expect([history.undo(), history.undo(), history.now.value]).toEqual([true, true, 1]);
    expect([history.redo(), history.now.value, history.canRedo.value]).toEqual([true, 2, true]);
    history.amend(20);
    history.push(4);
    expect([history.redo(), history.undo(), history.now.value]).toEqual([false, true, 20]);
  });
});

describe("a draft", () => {
  it("asks with its clicks, and corrects the chosen candidate", () => {
    expect(promptOf(clicked(BLANK, [1, 2, 1]))).toEqual({ points: [[1, 2, 1]] });
    expect(promptOf(boxed(BLANK, [1, 2, 3, 4]))).toEqual({ box: [1, 2, 3, 4] });
    expect(promptOf(clicked(ANSWERED, [1, 2, 0]))).toEqual({
      points: [
        [10.5, 10.5, 1],
        [1, 2, 0],
      ],
      single: true,
      mask: { answer: { id: "a", candidate: 1 } },
    });
  });

  it("that was drawn on goes on from what was drawn, not from its strokes as clicks", () => {
    const drawn = disc(5, 5, 3);
    const next = clicked({ ...ANSWERED, drawn }, [5, 5, 1]);
    expect(next).toMatchObject({ seed: drawn, drawn: null, answer: null, clicks: [[5, 5, 1]] });
    expect(promptOf(next).mask).toHaveProperty("rle");
  });

  it("that refines an object goes on from its clicks and its mask", () => {
    const base: StoredObject = {
      ...{ id: 3, position: 1, author: "me", mask: disc(10, 10, 8), class: null, predicted_iou: null, attributes: {} },
      track: null,
      prompt: { points: [[10.5, 10.5, 1], [1, 1, 7], [30.5, 1, 1], "?"], box: [2, 3, 18, 19], level: "whole" },
    };
    const begun = refining(base, base.mask);
    expect(begun).toMatchObject({ clicks: [[10.5, 10.5, 1]], box: [2, 3, 18, 19], isWaiting: false });
    expect(maskOf(begun)).toBe(base.mask);
    const { points, box, single, mask } = promptOf(clicked(begun, [14.5, 10.5, 0]));
    expect({ box, single }).toEqual({ box: [2, 3, 18, 19], single: true });
    expect(mask).toHaveProperty("rle");
    expect(points?.slice(-2)).toEqual([[10.5, 10.5, 1], [14.5, 10.5, 0]]);

    // Of one that was drawn there are no clicks: points inside say what is meant.
    for (const prompt of [null, "?", { points: null, box: [1, 2] }, { box: [5, 5, 2, 9] }]) {
      const asked = promptOf(clicked(refining({ ...base, prompt }, base.mask), [14.5, 10.5, 0]));
      const inside = asked.points?.filter(([, , label]) => label === 1) ?? [];
      expect(asked.box).toBeUndefined();
      expect(inside.length).toBeGreaterThan(0);
      for (const [x, y] of inside) {
        expect(has(base.mask, Math.floor(x), Math.floor(y))).toBe(true);
        expect(Math.hypot(x - 14.5, y - 10.5)).toBeGreaterThan(2);
      }
    }
  });

  it("is kept with its class, its clicks and its estimate, which a mask drawn by hand has not", () => {
    const mask = maskOf(ANSWERED) ?? expect.fail();
    expect(area(mask)).toBe(area(disc(10, 10, 5)));
    expect(objectOf(ANSWERED, mask, 7)).toMatchObject({
      class: 7,
      predicted_iou: 0.9,
      prompt: { points: [[10.5, 10.5, 1]], level: "part" },
    });
    expect(objectOf({ ...ANSWERED, drawn: mask }, mask, null)).toMatchObject({ predicted_iou: null, prompt: null });
  });

  it("survives a reload of the page, but not the object that it corrects", () => {
    const base: StoredObject = {
      ...{ id: 3, position: 1, author: "me", mask: disc(4, 4, 2), class: null },
      ...{ predicted_iou: null, prompt: null, attributes: {}, track: null },
    };
    const draft: Draft = { ...ANSWERED, base, seed: base.mask, drawn: disc(9, 9, 3) };
    const text = toText(draft);
    expect(fromText(text, [base], SIZE)).toEqual(draft);
    expect(fromText(text, [], SIZE)).toBeNull();
    expect(fromText(text, [base], [31, 20])).toBeNull();
  });
});

function picture(id: number, rest: Partial<Picture> = {}): Picture {
  return {
    ...{ id, path: `p${id}.jpg`, sha256: null, width: 0, height: 0, checked: false, is_gone: false },
    ...{ is_changed: false, objects: 0, revision: 0, classes: [], lowest_iou: null },
    ...{ frames: null, rate: null, video: null, frame: null },
    ...rest,
  };
}

describe("the address", () => {
  it("names the picture, whatever it is called", () => {
    for (const path of ["a.jpg", "two words/ä+b&c=#1%20.png"]) expect(pictureOf(hashOf(path))).toBe(path);
    expect(pictureOf("")).toBeNull();
    expect(pictureOf("#token=abc&picture=a.jpg")).toBe("a.jpg");
  });
});

describe("the queue", () => {
  const queue = new Queue();
  queue.pictures.value = [
    picture(1, { checked: true, objects: 2, classes: [5], lowest_iou: 0.9 }),
    picture(2, { is_gone: true }),
    picture(3, { objects: 1, classes: [5, 6], lowest_iou: 0.5 }),
    picture(4),
  ];
  const ids = (): number[] => queue.shown.value.map(({ id }) => id);

  it("goes on to what is not checked, around the end", () => {
    expect(queue.firstOf(queue.pictures.value)?.id).toBe(3);
    expect(queue.nextUnchecked(1)?.id).toBe(3);
    expect(queue.nextUnchecked(4)?.id).toBe(3);
    expect(queue.after(1, 5).map(({ id }) => id)).toEqual([3, 4]);
    expect(queue.beside(4, 1)).toBeUndefined();
  });

  it("shows what is asked for", () => {
    const expected = { unchecked: [2, 3, 4], checked: [1], empty: [2, 4], low: [3], problems: [2], all: [1, 2, 3, 4] };
    for (const [show, which] of Object.entries(expected)) {
      queue.show.value = show as keyof typeof expected;
      expect(ids()).toEqual(which);
    }
    queue.kind.value = 6;
    expect(ids()).toEqual([3]);
    queue.kind.value = null;
    queue.search.value = "P4";
    expect(ids()).toEqual([4]);
  });
});

describe("everything", () => {
  it("is a tree of wholes, parts and subparts", () => {
    const found = [disc(10, 10, 2), disc(10, 10, 8), disc(25, 15, 3), disc(10, 10, 5)];
    const nodes = treeOf(found.map((mask) => ({ mask, predicted_iou: 0.9 })));
    expect(nodes.map(({ parent }) => parent)).toEqual([null, 0, null, 1]);
    expect(nodes.map((node) => node.area)).toEqual([...nodes.map((node) => node.area)].sort((a, b) => b - a));
  });
});
