import { describe, expect, it } from "vitest";

import { keyframeBeside, lanesOf, timeOf, type Placed } from "../src/core/tracks";

function place(track: number, frame: number, rest: Partial<Placed> = {}): Placed {
  return { track, frame, object: 10 * track + frame, class: null, is_keyframe: false, is_hidden: false, predicted_iou: 0.9, ...rest };
}

const PLACED = [
  place(2, 1),
  place(1, 0, { is_keyframe: true, class: 7 }),
  place(1, 2, { is_hidden: true, class: 7 }),
  place(1, 1, { class: 7 }),
  place(1, 5, { is_keyframe: true, class: 7 }),
];

describe("lanes of a video", () => {
  it("show where objects are seen, hidden, and drawn", () => {
    expect(lanesOf(PLACED)).toEqual([
      {
        track: 1,
        class: 7,
        runs: [
          { first: 0, last: 1, isHidden: false },
          { first: 2, last: 2, isHidden: true },
          { first: 5, last: 5, isHidden: false },
        ],
        keyframes: [0, 5],
      },
      { track: 2, class: null, runs: [{ first: 1, last: 1, isHidden: false }], keyframes: [] },
    ]);
  });

  it("have keyframes to go to", () => {
    expect(keyframeBeside(PLACED, 2, 1)).toBe(5);
    expect(keyframeBeside(PLACED, 2, -1)).toBe(0);
    expect(keyframeBeside(PLACED, 5, 1)).toBeUndefined();
  });

  it("tell the time of a frame", () => {
    expect(timeOf(0, 25)).toBe("0:00.00");
    expect(timeOf(1530, 25)).toBe("1:01.20");
    expect(timeOf(3, null)).toBe("");
  });
});
