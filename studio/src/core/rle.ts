/** COCO's run lengths, as `pycocotools` compresses them: down the columns, from unset pixels on. */

import { empty, type Box, type Mask } from "./mask";

export interface Rle {
  /** Height, then width. */
  readonly size: readonly [number, number];
  readonly counts: string;
}

function runsOf(counts: string): number[] {
  const runs: number[] = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    for (let more = true; more; shift += 5) {
      const code = counts.charCodeAt(at++) - 48;
      if (!(code >= 0 && code < 64)) throw new Error("counts: no run lengths");
      // Not by bits: a run of a large picture has more than 31.
      value += (code & 31) * 2 ** shift;
      more = (code & 32) !== 0;
      if (!more && (code & 16) !== 0) value -= 2 ** (shift + 5);
    }
    if (runs.length > 2) value += runs[runs.length - 2] ?? 0;
    runs.push(value);
  }
  return runs;
}

function textOf(runs: readonly number[]): string {
  let text = "";
  runs.forEach((run, i) => {
    let value = i > 2 ? run - (runs[i - 2] ?? 0) : run;
    for (let more = true; more; ) {
      let code = ((value % 32) + 32) % 32;
      value = Math.floor(value / 32);
      more = (code & 16) === 0 ? value !== 0 : value !== -1;
      if (more) code |= 32;
      text += String.fromCharCode(code + 48);
    }
  });
  return text;
}

/** Visits the set runs: their first pixel, counted down the columns, and their length. */
function eachSet(runs: readonly number[], visit: (start: number, length: number) => void): void {
  let start = 0;
  runs.forEach((length, i) => {
    if (i % 2 === 1 && length > 0) visit(start, length);
    start += length;
  });
}

export function decode({ size: [height, width], counts }: Rle): Mask {
  const runs = runsOf(counts);
  const total = runs.reduce((sum, run) => sum + run, 0);
  if (total !== width * height || runs.some((run) => run < 0)) {
    throw new Error(`counts: ${total} pixels in the place of ${width * height}`);
  }
  let [left, top, right, bottom] = [width, height, 0, 0];
  eachSet(runs, (start, length) => {
    const [first, last] = [Math.floor(start / height), Math.floor((start + length - 1) / height)];
    left = Math.min(left, first);
    right = Math.max(right, last + 1);
    // A run over the end of a column reaches from top to bottom.
    top = first === last ? Math.min(top, start % height) : 0;
    bottom = first === last ? Math.max(bottom, (start % height) + length) : height;
  });
  if (right === 0) return empty([width, height]);
  const box: Box = { x: left, y: top, width: right - left, height: bottom - top };
  const pixels = new Uint8Array(box.width * box.height);
  eachSet(runs, (start, length) => {
    let x = Math.floor(start / height);
    let y = start - x * height;
    for (let rest = length; rest > 0; x++, y = 0) {
      const end = Math.min(height, y + rest);
      rest -= end - y;
      const column = (x - left) * box.height - top;
      pixels.fill(1, column + y, column + end);
    }
  });
  return { size: [width, height], box, pixels };
}

export function encode({ size: [width, height], box, pixels }: Mask): Rle {
  const runs = [0];
  let set = 0;
  const add = (value: number, length: number): void => {
    if (value !== set) {
      set = value;
      runs.push(0);
    }
    runs[runs.length - 1] = (runs[runs.length - 1] ?? 0) + length;
  };
  const beside = box.width === 0 ? width : box.x;
  if (beside > 0) add(0, beside * height);
  for (let x = 0; x < box.width; x++) {
    if (box.y > 0) add(0, box.y);
    const end = (x + 1) * box.height;
    for (let at = x * box.height; at < end; ) {
      const value = pixels[at] ?? 0;
      const next = pixels.indexOf(1 - value, at);
      const until = next < 0 ? end : Math.min(next, end);
      add(value, until - at);
      at = until;
    }
    const below = height - box.y - box.height;
    if (below > 0) add(0, below);
  }
  const rest = box.width === 0 ? 0 : width - box.x - box.width;
  if (rest > 0) add(0, rest * height);
  return { size: [height, width], counts: textOf(runs) };
}
