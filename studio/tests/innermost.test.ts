import { describe, expect, it } from "vitest";

import { innermost } from "../src/core/innermost";
import { empty, has, stroke, subtract, union } from "../src/core/mask";

const SIZE = [200, 120] as const;
const away = (a: readonly [number, number] | undefined, x: number, y: number): number =>
  a === undefined ? Infinity : Math.hypot(a[0] - x, a[1] - y);

describe("the innermost points", () => {
  it("are the middle of a disc, and of the larger of two", () => {
    const disc = stroke(SIZE, [[60.5, 50.5]], 30);
    expect(away(innermost(disc, 1, [])[0], 60.5, 50.5)).toBeLessThan(2);
    const both = union(disc, stroke(SIZE, [[150, 80]], 15));
    expect(away(innermost(both, 1, [])[0], 60.5, 50.5)).toBeLessThan(2);
  });

  it("of a ring lie on it, far from each other", () => {
    const ring = subtract(stroke(SIZE, [[100, 60]], 50), stroke(SIZE, [[100, 60]], 30));
    const found = innermost(ring, 3, []);
    expect(found).toHaveLength(3);
    for (const [i, [x, y]] of found.entries()) {
      expect(has(ring, Math.floor(x), Math.floor(y))).toBe(true);
      for (const [ox, oy] of found.slice(0, i)) expect(Math.hypot(x - ox, y - oy)).toBeGreaterThan(9);
    }
  });

  it("keep away from others", () => {
    const bar = stroke(SIZE, [[30, 60], [170, 60]], 20);
    for (const x of [40, 160]) expect(away(innermost(bar, 1, [[x, 60]])[0], x, 60)).toBeGreaterThan(18);
  });

  it("are found in masks of any size", () => {
    expect(innermost(empty(SIZE), 2, [])).toEqual([]);
    const [dot] = innermost(stroke(SIZE, [[3.5, 4.5]], 0.6), 1, []);
    expect(dot).toEqual([3.5, 4.5]);
    expect(innermost(stroke(SIZE, [[3.5, 4.5]], 0.6), 2, [])).toHaveLength(1);
    const large = stroke([4000, 3000], [[2000, 1500]], 1400);
    expect(away(innermost(large, 1, [])[0], 2000, 1500)).toBeLessThan(30);
  });
});
