/** Points that stand for a mask: far inside of it. */

import { has, type Mask } from "./mask";
import type { Point } from "./view";

/** Cells of the grid on which they are looked for: large masks are seen coarsely. */
const CELLS = 100_000;

/**
 * The points of a mask that lie farthest from its edge, from `others` and from each other; fewer than `count` where
 * there is no room.
 */
export function innermost(mask: Mask, count: number, others: readonly Point[]): readonly Point[] {
  const { box } = mask;
  const step = Math.max(1, Math.ceil(Math.sqrt((box.width * box.height) / CELLS)));
  const [columns, rows] = [Math.ceil(box.width / step), Math.ceil(box.height / step)];
  const middle = (i: number): Point => [
    box.x + Math.min(box.width - 1, Math.floor((Math.floor(i / rows) + 0.5) * step)) + 0.5,
    box.y + Math.min(box.height - 1, Math.floor(((i % rows) + 0.5) * step)) + 0.5,
  ];
  const room = depths(columns, rows, (i) => {
    const [x, y] = middle(i);
    return has(mask, x - 0.5, y - 0.5);
  });
  const leave = ([x, y]: Point): void => {
    room.forEach((depth, i) => {
      const [cx, cy] = middle(i);
      room[i] = Math.min(depth, Math.hypot(cx - x, cy - y) / step);
    });
  };
  others.forEach(leave);
  const found: Point[] = [];
  while (found.length < count) {
    let best = 0;
    room.forEach((depth, i) => {
      if (depth > (room[best] ?? 0)) best = i;
    });
    if ((room[best] ?? 0) < 1) break;
    found.push(middle(best));
    leave(middle(best));
  }
  return found;
}

/** How far cells are from the nearest one that is not inside, in cells, by steps to their eight neighbours. */
function depths(columns: number, rows: number, isInside: (i: number) => boolean): Float32Array {
  const room = new Float32Array(columns * rows);
  for (let i = 0; i < room.length; i++) room[i] = isInside(i) ? Infinity : 0;
  const at = (x: number, y: number): number =>
    x < 0 || y < 0 || x >= columns || y >= rows ? 0 : (room[x * rows + y] ?? 0);
  const sweep = (x: number, y: number, way: 1 | -1): void => {
    const straight = Math.min(at(x - way, y), at(x, y - way)) + 1;
    const aslant = Math.min(at(x - way, y - way), at(x - way, y + way)) + Math.SQRT2;
    room[x * rows + y] = Math.min(at(x, y), straight, aslant);
  };
  for (let x = 0; x < columns; x++) for (let y = 0; y < rows; y++) sweep(x, y, 1);
  for (let x = columns - 1; x >= 0; x--) for (let y = rows - 1; y >= 0; y--) sweep(x, y, -1);
  return room;
}
