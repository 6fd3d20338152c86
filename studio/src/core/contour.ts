/** Outlines of masks along the edges of pixels, so that they are crisp however far one zooms in. */

import { has, indexOf, type Mask } from "./mask";

/** Corners of pixels; the last is joined to the first. Outer rings run clockwise on the screen, holes the other way. */
export type Ring = readonly (readonly [number, number])[];

/** Up, right, down, left. */
const STEPS = [
  [0, -1],
  [1, 0],
  [0, 1],
  [-1, 0],
] as const;

export function rings(mask: Mask): Ring[] {
  const { box, pixels } = mask;
  const { height } = box;
  const seen = new Uint8Array(pixels.length);
  const found: Ring[] = [];
  // Pixels with none at their left, found by whole runs: most of a large mask is not looked at one by one.
  for (let x = 0; x < box.width; x++) {
    const column = pixels.subarray(x * height, (x + 1) * height);
    const before = x === 0 ? undefined : pixels.subarray((x - 1) * height, x * height);
    for (let y = column.indexOf(1); y >= 0; ) {
      const next = column.indexOf(0, y);
      const end = next < 0 ? height : next;
      for (; y < end; y++) {
        if (before !== undefined) y = before.indexOf(0, y);
        if (y < 0 || y >= end) break;
        if (seen[x * height + y] === 0) found.push(follow(mask, seen, box.x + x, box.y + y));
      }
      y = column.indexOf(1, end);
    }
  }
  return found;
}

/** Walks along the outline with the object on the right hand, up the left edge of a pixel first. */
function follow(mask: Mask, seen: Uint8Array, startX: number, startY: number): Ring {
  const { box } = mask;
  const ring: [number, number][] = [];
  let [x, y] = [startX, startY + 1];
  let direction = 0;
  do {
    if (direction === 0) seen[indexOf(box, x, y - 1)] = 1;
    const [dx, dy] = STEPS[direction] ?? [0, 0];
    x += dx;
    y += dy;
    // The pixels that lie ahead of the corner, to the left and to the right.
    const ahead = [
      [x - 1, y - 1],
      [x, y - 1],
      [x, y],
      [x - 1, y],
    ] as const;
    const [leftX, leftY] = ahead[direction] ?? [0, 0];
    const [rightX, rightY] = ahead[(direction + 1) % 4] ?? [0, 0];
    let turned = direction;
    if (!has(mask, rightX, rightY)) turned = (direction + 1) % 4;
    else if (has(mask, leftX, leftY)) turned = (direction + 3) % 4;
    if (turned !== direction) ring.push([x, y]);
    direction = turned;
  } while (!(x === startX && y === startY + 1 && direction === 0));
  return ring;
}

/** The same outline with corners on a grid of so many pixels: fewer of them, where a picture is seen from afar. */
export function coarse(ring: Ring, step: number): Ring {
  if (step <= 1) return ring;
  const corners: (readonly [number, number])[] = [];
  for (const [x, y] of ring) {
    const corner = [Math.round(x / step) * step, Math.round(y / step) * step] as const;
    const last = corners[corners.length - 1];
    if (last?.[0] !== corner[0] || last[1] !== corner[1]) corners.push(corner);
  }
  return corners.length < 3 ? ring : corners;
}
