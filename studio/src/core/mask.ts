/**
 * Masks of a picture, kept as the pixels of their box: a small object of a large picture takes little memory. They lie
 * column by column, as run lengths do, which are filled and searched as a whole.
 */

/** A box in pixels; `width` and `height` are 0 for nothing. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Which pixels of a picture belong to an object. */
export interface Mask {
  /** Width and height of the picture. */
  readonly size: readonly [number, number];
  readonly box: Box;
  /** 1 or 0 for every pixel of the box, down the columns. */
  readonly pixels: Uint8Array;
}

export const NOTHING: Box = { x: 0, y: 0, width: 0, height: 0 };

export function empty(size: readonly [number, number]): Mask {
  return { size, box: NOTHING, pixels: new Uint8Array(0) };
}

export function has(mask: Mask, x: number, y: number): boolean {
  const { box } = mask;
  const inside = x >= box.x && y >= box.y && x < box.x + box.width && y < box.y + box.height;
  return inside && mask.pixels[indexOf(box, x, y)] === 1;
}

/** Where a pixel of the picture is among those of a box around it. */
export function indexOf(box: Box, x: number, y: number): number {
  return (x - box.x) * box.height + y - box.y;
}

/** The mask of a whole picture that is told row by row. */
export function fromRows(size: readonly [number, number], isSet: (index: number) => boolean): Mask {
  const [width, height] = size;
  const pixels = new Uint8Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) if (isSet(i)) pixels[x * height + y] = 1;
  }
  return trimmed({ size, box: { x: 0, y: 0, width, height }, pixels });
}

export function isSame(a: Mask, b: Mask): boolean {
  if (a === b) return true;
  const [one, other] = [a.box, b.box];
  const isThere = one.x === other.x && one.y === other.y && one.width === other.width && one.height === other.height;
  return isThere && a.pixels.every((pixel, i) => pixel === b.pixels[i]);
}

export function area(mask: Mask): number {
  let sum = 0;
  for (const pixel of mask.pixels) sum += pixel;
  return sum;
}

/** The smallest box around two. */
export function around(a: Box, b: Box): Box {
  if (a.width === 0) return b;
  if (b.width === 0) return a;
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return {
    x,
    y,
    width: Math.max(a.x + a.width, b.x + b.width) - x,
    height: Math.max(a.y + a.height, b.y + b.height) - y,
  };
}

/** The part of a box that lies in a picture. */
export function within(box: Box, [width, height]: readonly [number, number]): Box {
  const x = Math.max(0, box.x);
  const y = Math.max(0, box.y);
  const right = Math.min(width, box.x + box.width);
  const bottom = Math.min(height, box.y + box.height);
  return right <= x || bottom <= y ? NOTHING : { x, y, width: right - x, height: bottom - y };
}

/** The same mask with the pixels of another box. */
export function framed(mask: Mask, box: Box): Mask {
  const pixels = new Uint8Array(box.width * box.height);
  const both = within({ ...mask.box, x: mask.box.x - box.x, y: mask.box.y - box.y }, [
    box.width,
    box.height,
  ]);
  for (let column = both.x; column < both.x + both.width; column++) {
    const from = indexOf(mask.box, column + box.x, both.y + box.y);
    pixels.set(mask.pixels.subarray(from, from + both.height), column * box.height + both.y);
  }
  return { size: mask.size, box, pixels };
}

/** The same mask with the smallest box. */
export function trimmed(mask: Mask): Mask {
  const { box, pixels } = mask;
  let [left, top, right, bottom] = [box.width, box.height, 0, 0];
  for (let x = 0; x < box.width; x++) {
    const column = pixels.subarray(x * box.height, (x + 1) * box.height);
    const first = column.indexOf(1);
    if (first < 0) continue;
    left = Math.min(left, x);
    right = x + 1;
    top = Math.min(top, first);
    bottom = Math.max(bottom, column.lastIndexOf(1) + 1);
  }
  if (right === 0) return empty(mask.size);
  return framed(mask, {
    x: box.x + left,
    y: box.y + top,
    width: right - left,
    height: bottom - top,
  });
}

export function union(a: Mask, b: Mask): Mask {
  const box = around(a.box, b.box);
  const [one, other] = [framed(a, box), framed(b, box)];
  return { ...one, pixels: one.pixels.map((pixel, i) => pixel | (other.pixels[i] ?? 0)) };
}

export function subtract(a: Mask, b: Mask): Mask {
  const other = framed(b, a.box);
  const pixels = a.pixels.map((pixel, i) => pixel & ~(other.pixels[i] ?? 0) & 1);
  return trimmed({ ...a, pixels });
}

/** What a round brush covers that is drawn along a line, in pixels of the picture. */
export function stroke(
  size: readonly [number, number],
  line: readonly (readonly [number, number])[],
  radius: number,
): Mask {
  let box = NOTHING;
  for (const [x, y] of line) {
    const [left, top] = [Math.floor(x - radius), Math.floor(y - radius)];
    const [right, bottom] = [Math.ceil(x + radius), Math.ceil(y + radius)];
    box = around(box, { x: left, y: top, width: right - left, height: bottom - top });
  }
  box = within(box, size);
  const pixels = new Uint8Array(box.width * box.height);
  line.forEach(([bx, by], i) => {
    const [ax, ay] = line[Math.max(0, i - 1)] ?? [bx, by];
    const [dx, dy] = [bx - ax, by - ay];
    const length2 = dx * dx + dy * dy;
    const part = within(
      {
        x: Math.floor(Math.min(ax, bx) - radius) - box.x,
        y: Math.floor(Math.min(ay, by) - radius) - box.y,
        width: Math.ceil(Math.abs(dx) + 2 * radius) + 2,
        height: Math.ceil(Math.abs(dy) + 2 * radius) + 2,
      },
      [box.width, box.height],
    );
    for (let y = part.y; y < part.y + part.height; y++) {
      for (let x = part.x; x < part.x + part.width; x++) {
        // From the middle of the pixel to the nearest point of the line.
        const [px, py] = [x + box.x + 0.5 - ax, y + box.y + 0.5 - ay];
        const along = length2 === 0 ? 0 : Math.min(1, Math.max(0, (px * dx + py * dy) / length2));
        const distance = Math.hypot(px - along * dx, py - along * dy);
        if (distance <= radius) pixels[x * box.height + y] = 1;
      }
    }
  });
  return trimmed({ size, box, pixels });
}
