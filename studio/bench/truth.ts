/** Objects whose outlines are known, and what somebody does who knows them. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { area, framed, indexOf, type Box, type Mask } from "../src/core/mask";
import { decode, type Rle } from "../src/core/rle";
import { shuffled } from "./numbers";

type Point = readonly [x: number, y: number];

/** One object on a picture. */
export interface Truth {
  /** The picture's path. */
  readonly path: string;
  readonly name: string;
  readonly mask: Mask;
}

interface Annotations {
  readonly images: readonly { readonly id: number; readonly file_name: string; readonly split: string }[];
  readonly annotations: readonly {
    readonly image_id: number;
    readonly area: number;
    readonly iscrowd: number;
    readonly segmentation: Rle;
  }[];
}

/** One object on each of so many pictures of a data set, of those that are for testing. */
export async function truths(
  set: string,
  count: number,
  smallest: number,
  random: () => number,
): Promise<readonly Truth[]> {
  const folder = process.env["STUDIO_DATA"];
  if (folder === undefined) {
    throw new Error(`STUDIO_DATA: name the folder that has ${set}/annotations.json (COCO, with a split) and ${set}/images`);
  }
  const told = JSON.parse(await readFile(join(folder, set, "annotations.json"), "utf8")) as Annotations;
  const found: Truth[] = [];
  for (const { id, file_name } of shuffled(told.images.filter(({ split }) => split === "val"), random)) {
    const here = told.annotations.filter(({ image_id, iscrowd, area }) => image_id === id && iscrowd === 0 && area >= smallest);
    const [one] = shuffled(here, random);
    if (one === undefined) continue;
    found.push({ path: join(folder, set, "images", file_name), name: file_name, mask: decode(one.segmentation) });
    if (found.length === count) return found;
  }
  throw new Error(`STUDIO_DATA: ${set} has objects on ${found.length} pictures, not on ${count}`);
}

export function iou(a: Mask, b: Mask): number {
  const other = framed(b, a.box).pixels;
  const both = a.pixels.reduce((sum, pixel, i) => sum + (pixel & (other[i] ?? 0)), 0);
  const all = area(a) + area(b) - both;
  return all === 0 ? 1 : both / all;
}

/** How far the pixels of a mask are from its edge, in pixels; those at the edge 1, those outside 0. */
function depths({ box, pixels }: Mask): Float32Array {
  const depth = Float32Array.from(pixels, (pixel) => (pixel === 1 ? Infinity : 0));
  const [right, bottom] = [box.x + box.width, box.y + box.height];
  const at = (x: number, y: number): number =>
    x < box.x || y < box.y || x >= right || y >= bottom ? 0 : (depth[indexOf(box, x, y)] ?? 0);
  const visit = (x: number, y: number, way: 1 | -1): void => {
    const i = indexOf(box, x, y);
    if (depth[i] === 0) return;
    const straight = Math.min(at(x - way, y), at(x, y - way)) + 1;
    const across = Math.min(at(x - way, y - way), at(x + way, y - way)) + Math.SQRT2;
    depth[i] = Math.min(depth[i] ?? 0, straight, across);
  };
  for (let y = box.y; y < bottom; y++) for (let x = box.x; x < right; x++) visit(x, y, 1);
  for (let y = bottom - 1; y >= box.y; y--) for (let x = right - 1; x >= box.x; x--) visit(x, y, -1);
  return depth;
}

/** The pixel of the picture at a place among those of a box. */
function pointOf({ x, y, height }: Box, index: number): Point {
  return [x + Math.floor(index / height), y + (index % height)];
}

/** A pixel inside, near the middle rather than at the edge. */
export function somewhereInside(mask: Mask, random: () => number): Point {
  const depth = depths(mask);
  let rest = random() * depth.reduce((sum, value) => sum + value, 0);
  return pointOf(mask.box, Math.max(0, depth.findIndex((value) => (rest -= value) < 0)));
}

/** The middle of the largest region that is wrong, and whether it is missing; not `near` a click. */
export function correction(
  mask: Mask,
  truth: Mask,
  near: (point: Point) => boolean,
): { readonly at: Point; readonly isMissing: boolean } | undefined {
  const [width, height] = truth.size;
  const box: Box = { x: 0, y: 0, width, height };
  const [made, right] = [framed(mask, box).pixels, framed(truth, box).pixels];
  // 1 where something is missing, 2 where there is too much.
  const wrong = right.map((pixel, i) => (pixel === made[i] ? 0 : 2 - pixel));
  const seen = new Uint8Array(wrong.length);
  let largest: number[] = [];
  wrong.forEach((kind, i) => {
    if (kind === 0 || seen[i] === 1) return;
    const region = [i];
    seen[i] = 1;
    for (const at of region) {
      const [, y] = pointOf(box, at);
      const beside = [y > 0 ? at - 1 : at, y < height - 1 ? at + 1 : at, at - height, at + height];
      for (const next of beside) {
        if (wrong[next] !== kind || seen[next] === 1) continue;
        seen[next] = 1;
        region.push(next);
      }
    }
    if (region.length > largest.length) largest = region;
  });
  const [first] = largest;
  if (first === undefined) return undefined;
  const pixels = new Uint8Array(wrong.length);
  for (const i of largest) pixels[i] = 1;
  const depth = depths({ size: truth.size, box, pixels });
  let best: { at: Point; depth: number } | undefined;
  for (const i of largest) {
    const at = pointOf(box, i);
    const here = depth[i] ?? 0;
    if ((best === undefined || here > best.depth) && !near(at)) best = { at, depth: here };
  }
  return best && { at: best.at, isMissing: wrong[first] === 1 };
}
