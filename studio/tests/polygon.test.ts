import { describe, expect, it } from "vitest";

import { coarse, rings } from "../src/core/contour";
import { area, has, stroke, subtract, union } from "../src/core/mask";
import { filled, simplified } from "../src/core/polygon";

const SIZE = [40, 30] as const;
const BLOB = subtract(
  union(stroke(SIZE, [[10, 10], [25, 18]], 6), stroke(SIZE, [[35, 25]], 3)),
  stroke(SIZE, [[12, 11]], 2),
);

describe("polygons", () => {
  it("that follow the pixels enclose the same mask, holes and parts too", () => {
    const again = filled(SIZE, rings(BLOB));
    expect(rings(BLOB)).toHaveLength(3);
    expect(again).toEqual(BLOB);
  });

  it("with fewer corners stay as near as they are told", () => {
    for (const tolerance of [0.5, 1, 2]) {
      const outline = rings(BLOB);
      const fewer = outline.map((ring) => simplified(ring, tolerance));
      expect(fewer.flat().length).toBeLessThan(outline.flat().length);
      const mask = filled(SIZE, fewer);
      const wrong = area(subtract(mask, BLOB)) + area(subtract(BLOB, mask));
      expect(wrong).toBeLessThan(tolerance * outline.flat().length);
    }
  });

  it("are cut at the edge of the picture", () => {
    const mask = filled(SIZE, [[[-10, -10], [5, -10], [5, 100], [-10, 100]]]);
    expect(area(mask)).toBe(5 * 30);
    expect(has(mask, 4, 29)).toBe(true);
    expect(area(filled(SIZE, [[[50, 50], [60, 50], [60, 60]]]))).toBe(0);
    expect(area(filled(SIZE, []))).toBe(0);
  });

  it("seen from afar have fewer corners", () => {
    const [ring] = rings(BLOB);
    expect(coarse(ring ?? [], 4).length).toBeLessThan((ring ?? []).length);
    expect(coarse(ring ?? [], 1)).toBe(ring);
  });
});
