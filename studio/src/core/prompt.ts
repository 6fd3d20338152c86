/** What is said of an object that the model shall mask. */

import type { Rle } from "./rle";

/** A click on an object (label 1) or beside it (0), in pixels of the picture. */
export type Click = readonly [x: number, y: number, label: 0 | 1];

/** Left, top, right and bottom, in pixels of the picture. */
export type Corners = readonly [number, number, number, number];

export interface Prompt {
  readonly points?: readonly Click[];
  readonly box?: Corners;
  readonly mask?: { readonly answer: { readonly id: string; readonly candidate?: number } } | { readonly rle: Rle };
  readonly single?: boolean;
}

function areNumbers(value: unknown, count: number): value is readonly number[] {
  return Array.isArray(value) && value.length === count && value.every((number) => Number.isFinite(number));
}

/** The clicks and the box that are kept with an object, as far as they make sense: other programs write them, too. */
export function keptPrompt(
  kept: unknown,
  [width, height]: readonly [number, number],
): { readonly clicks: readonly Click[]; readonly box: Corners | null } {
  const isClick = (value: unknown): value is Click => {
    if (!areNumbers(value, 3)) return false;
    const [x = -1, y = -1, label] = value;
    return x >= 0 && y >= 0 && x < width && y < height && (label === 0 || label === 1);
  };
  const isBox = (value: unknown): value is Corners => {
    if (!areNumbers(value, 4)) return false;
    const [left = -1, top = -1, right = -1, bottom = -1] = value;
    return left >= 0 && top >= 0 && left < right && top < bottom && right <= width && bottom <= height;
  };
  const { points, box } = (typeof kept === "object" && kept !== null ? kept : {}) as Record<string, unknown>;
  return { clicks: Array.isArray(points) ? points.filter(isClick) : [], box: isBox(box) ? box : null };
}
