/** Polygons whose corners are moved by hand, and the masks that they enclose. */

import { empty, trimmed, type Mask } from "./mask";
import type { Point } from "./view";

/** How far a point lies from a line between two. */
export function distance([x, y]: Point, [ax, ay]: Point, [bx, by]: Point): number {
  const [dx, dy] = [bx - ax, by - ay];
  const length2 = dx * dx + dy * dy;
  const along = length2 === 0 ? 0 : Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / length2));
  return Math.hypot(x - ax - along * dx, y - ay - along * dy);
}

/** Fewer corners, none of the others farther from the outline than `tolerance` (Douglas and Peucker). */
export function simplified(ring: readonly Point[], tolerance: number): readonly Point[] {
  if (tolerance <= 0 || ring.length < 4) return ring;
  // A ring is two lines: from its first corner to the one that is farthest away, and back.
  const first = ring[0] ?? [0, 0];
  let [far, most] = [0, -1];
  ring.forEach(([x, y], i) => {
    const away = Math.hypot(x - first[0], y - first[1]);
    if (away > most) [far, most] = [i, away];
  });
  const keep = new Uint8Array(ring.length + 1);
  keep[0] = keep[far] = 1;
  const parts: [number, number][] = [
    [0, far],
    [far, ring.length],
  ];
  const at = (i: number): Point => ring[i % ring.length] ?? first;
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    const [from, to] = part;
    let [worst, error] = [-1, tolerance];
    for (let i = from + 1; i < to; i++) {
      const off = distance(at(i), at(from), at(to));
      if (off > error) [worst, error] = [i, off];
    }
    if (worst < 0) continue;
    keep[worst] = 1;
    parts.push([from, worst], [worst, to]);
  }
  const corners = ring.filter((_, i) => keep[i] === 1);
  return corners.length < 3 ? ring : corners;
}

/** The pixels whose middle lies in an odd number of the rings, so that rings within others are holes. */
export function filled(size: readonly [number, number], rings: readonly (readonly Point[])[]): Mask {
  const [width, height] = size;
  const corners = rings.flat();
  if (corners.length === 0) return empty(size);
  const xs = corners.map(([x]) => x);
  const left = Math.max(0, Math.floor(min(xs)));
  const right = Math.min(width, Math.ceil(max(xs)));
  if (right <= left) return empty(size);
  const pixels = new Uint8Array((right - left) * height);
  for (let x = left; x < right; x++) {
    const middle = x + 0.5;
    const crossings: number[] = [];
    for (const ring of rings) {
      ring.forEach(([ax, ay], i) => {
        const [bx, by] = ring[(i + 1) % ring.length] ?? [ax, ay];
        if (ax <= middle !== bx <= middle) crossings.push(ay + ((middle - ax) * (by - ay)) / (bx - ax));
      });
    }
    crossings.sort((a, b) => a - b);
    const column = (x - left) * height;
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const top = Math.max(0, Math.ceil((crossings[i] ?? 0) - 0.5));
      const bottom = Math.min(height, Math.ceil((crossings[i + 1] ?? 0) - 0.5));
      if (bottom > top) pixels.fill(1, column + top, column + bottom);
    }
  }
  return trimmed({ size, box: { x: left, y: 0, width: right - left, height }, pixels });
}

function min(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function max(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}
