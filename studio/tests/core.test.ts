import { describe, expect, it } from "vitest";

import { rings } from "../src/core/contour";
import { area, empty, fromRows, has, stroke, subtract, union, type Mask } from "../src/core/mask";
import { decode, encode } from "../src/core/rle";
import { fitted, moved, toPicture, toScreen, zoomed } from "../src/core/view";

function drawn(rows: readonly string[]): Mask {
  const [width, height] = [rows[0]?.length ?? 0, rows.length];
  return fromRows([width, height], (i) => rows.join("")[i] === "#");
}

/** A mask that is as random as it is repeatable. */
function noise(width: number, height: number, seed: number, share: number): Mask {
  let state = seed * 2654435761 + 1;
  return fromRows([width, height], () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < share;
  });
}

describe("run lengths", () => {
  it("are those of pycocotools", () => {
    // Of `mask.encode` of an array of 4 x 5 that is set in rows 1 and 2, columns 1 and 2.
    const square = drawn([".....", ".##..", ".##..", "....."]);
    expect(encode(square)).toEqual({ size: [4, 5], counts: "52207" });
    expect(decode({ size: [4, 5], counts: "52207" })).toEqual(square);
  });

  it("go there and back", () => {
    for (let seed = 0; seed < 60; seed++) {
      const mask = noise(1 + (seed % 13), 1 + (seed % 7), seed, (seed % 5) / 4);
      expect(decode(encode(mask))).toEqual(mask);
    }
    const large = stroke([1200, 900], [[5, 5], [1190, 890]], 3);
    const text = encode(large);
    expect(encode(decode(text))).toEqual(text);
    expect(decode(text).box).toEqual(large.box);
    expect(decode(encode(empty([7, 9])))).toEqual(empty([7, 9]));
  });

  it("of another size are refused", () => {
    expect(() => decode({ size: [4, 4], counts: "52207" })).toThrow("20 pixels");
    expect(() => decode({ size: [4, 5], counts: "é" })).toThrow("counts");
  });
});

describe("masks", () => {
  it("are joined and cut", () => {
    const a = drawn(["###...", "###..."]);
    const b = drawn(["..####", "......"]);
    expect(area(union(a, b))).toBe(9);
    expect(area(subtract(a, b))).toBe(5);
    expect(subtract(a, a)).toEqual(empty([6, 2]));
    expect(union(a, empty([6, 2]))).toEqual(a);
  });

  it("of a brush are round, and stay in the picture", () => {
    const dot = stroke([100, 100], [[50, 50]], 20);
    expect(Math.abs(area(dot) - Math.PI * 400)).toBeLessThan(15);
    const line = stroke([100, 100], [[-50, 50], [150, 50]], 5);
    expect(line.box).toEqual({ x: 0, y: 45, width: 100, height: 10 });
    expect(stroke([100, 100], [[-50, -50]], 5)).toEqual(empty([100, 100]));
  });
});

describe("outlines", () => {
  /** Whether a pixel lies inside by the even-odd rule. */
  function inside(all: readonly (readonly (readonly [number, number])[])[], x: number, y: number): boolean {
    let odd = false;
    for (const ring of all) {
      ring.forEach(([ax, ay], i) => {
        const [bx, by] = ring[(i + 1) % ring.length] ?? [0, 0];
        const crosses = ay > y + 0.5 !== by > y + 0.5;
        if (crosses && ax === bx && ax > x + 0.5) odd = !odd;
      });
    }
    return odd;
  }

  it("follow every pixel, with holes and corners that touch", () => {
    for (let seed = 0; seed < 40; seed++) {
      const mask = noise(9, 8, seed, 0.2 + (seed % 5) / 6);
      const all = rings(mask);
      for (let y = 0; y < 8; y++) {
        for (let x = 0; x < 9; x++) expect(inside(all, x, y)).toBe(has(mask, x, y));
      }
    }
  });

  it("have corners only where they turn", () => {
    expect(rings(drawn(["....", ".##.", "...."]))).toEqual([[[1, 1], [3, 1], [3, 2], [1, 2]]]);
    expect(rings(drawn(["###", "#.#", "###"])).length).toBe(2);
  });
});

describe("views", () => {
  it("show the whole picture first", () => {
    const view = fitted([4000, 3000], [800, 800]);
    expect(toScreen(view, [0, 0])).toEqual([0, 100]);
    expect(toPicture(view, [800, 700])).toEqual([4000, 3000]);
  });

  it("keep what is under the pointer", () => {
    const view = fitted([4000, 3000], [800, 800]);
    const at = [123, 456] as const;
    const before = toPicture(view, at);
    const closer = zoomed(view, at, 3, 0.1);
    expect(toPicture(closer, at)[0]).toBeCloseTo(before[0]);
    expect(zoomed(view, at, 1e9, 0.1).scale).toBe(64);
    expect(zoomed(view, at, 1e-9, 0.1).scale).toBe(0.1);
  });

  it("never lose the picture", () => {
    const view = fitted([4000, 3000], [800, 800]);
    const far = moved(view, [1e6, -1e6], [4000, 3000], [800, 800]);
    expect(toScreen(far, [0, 3000])).toEqual([760, 40]);
  });
});
