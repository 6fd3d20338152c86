/** Pictures and masks of any size, to be measured with. */

import { execFile } from "node:child_process";
import { access, mkdir } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { promisify } from "node:util";

import { indexOf, trimmed, type Box, type Mask } from "../src/core/mask";
import { chance } from "./numbers";

export const REPOSITORY = resolve(import.meta.dirname, "../..");
const run = promisify(execFile);

/** The photo that all pictures are made of. */
async function photo(): Promise<string> {
  const path = process.env["STUDIO_PHOTO"] ?? join(REPOSITORY, "docs/gallery/rocket.jpg");
  await access(path).catch(() => {
    throw new Error(`STUDIO_PHOTO: there is no file ${path}; it is the photo that pictures to measure with are made of`);
  });
  return path;
}

/** Writes a photo of this size into a folder, with grain of its own so that no two are the same. Answers its path. */
export async function makePicture(
  folder: string,
  name: string,
  [width, height]: readonly [number, number],
  seed: number,
): Promise<string> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, name);
  const fill = `scale=${width}:${height}:force_original_aspect_ratio=increase,crop=${width}:${height}`;
  const flip = seed % 2 === 1 ? ",hflip" : "";
  const grain = `noise=all_seed=${seed}:alls=12`;
  try {
    await run("ffmpeg", ["-v", "error", "-y", "-i", await photo(), "-vf", `${fill}${flip},${grain}`, "-q:v", "2", path]);
  } catch (error) {
    throw new Error("ffmpeg makes the pictures to measure with, and has not", { cause: error });
  }
  return path;
}

/** As `Studio.start` wants it. */
export function fromRepository(path: string): string {
  return relative(REPOSITORY, path);
}

/** Discs and blobs of many sizes, all over the picture. */
export function makeMasks(size: readonly [number, number], count: number, seed: number): Mask[] {
  const random = chance(seed);
  const [width, height] = size;
  return Array.from({ length: count }, (_, i) => {
    const radius = Math.max(4, (Math.min(width, height) / 6) * random() ** 2);
    const middle = [random() * width, random() * height] as const;
    const waves = i % 2 === 0 ? [] : [2, 3, 5, 9].map((times) => [times, random() / times / 2, random() * 7] as const);
    return blob(size, middle, radius, waves);
  });
}

function blob(
  size: readonly [number, number],
  [cx, cy]: readonly [number, number],
  radius: number,
  waves: readonly (readonly [times: number, height: number, phase: number])[],
): Mask {
  const reach = Math.ceil(radius * 2);
  const [left, top] = [Math.max(0, Math.floor(cx) - reach), Math.max(0, Math.floor(cy) - reach)];
  const width = Math.min(size[0], Math.floor(cx) + reach) - left;
  const height = Math.min(size[1], Math.floor(cy) + reach) - top;
  const box: Box = { x: left, y: top, width, height };
  const pixels = new Uint8Array(width * height);
  for (let x = left; x < left + width; x++) {
    for (let y = top; y < top + height; y++) {
      const [dx, dy] = [x + 0.5 - cx, y + 0.5 - cy];
      const angle = Math.atan2(dy, dx);
      const edge = waves.reduce((sum, [times, high, phase]) => sum + high * Math.sin(times * angle + phase), 1);
      if (Math.hypot(dx, dy) <= radius * edge) pixels[indexOf(box, x, y)] = 1;
    }
  }
  return trimmed({ size, box, pixels });
}
