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

function isClick(value: unknown): value is Click {
  return areNumbers(value, 3) && (value[2] === 0 || value[2] === 1);
}

/** The clicks and the box that are kept with an object, of which nothing is sure: programs write them, too. */
export function keptPrompt(kept: unknown): { readonly clicks: readonly Click[]; readonly box: Corners | null } {
  const { points, box } = (typeof kept === "object" && kept !== null ? kept : {}) as Record<string, unknown>;
  return {
    clicks: Array.isArray(points) ? points.filter(isClick) : [],
    box: areNumbers(box, 4) ? (box as unknown as Corners) : null,
  };
}
