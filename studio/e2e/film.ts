/** A video for trying: a camera that moves over a cup of coffee. */

import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** Width and height of its frames. */
export const SIZE = [400, 300] as const;
/** Where the cup is in the first frame. */
export const CUP = [215, 130] as const;

/** Where it is in others. */
export function cupAt(frame: number): [number, number] {
  return [CUP[0] - 6 * frame, CUP[1] - 3 * frame];
}

/** Makes one of so many frames with ffmpeg, and answers where. */
export function film(frames: number): string {
  const path = join(mkdtempSync(join(tmpdir(), "samara-film-")), "coffee.mp4");
  const coffee = resolve(import.meta.dirname, "../../docs/coffee.png");
  const moving = `crop=${SIZE[0]}:${SIZE[1]}:60+6*n:40+3*n`;
  const input = ["-loop", "1", "-framerate", "10", "-i", coffee];
  execFileSync("ffmpeg", ["-v", "error", ...input, "-vf", moving, "-frames:v", `${frames}`, "-c:v", "mpeg4", "-q:v", "2", path]);
  return path;
}
