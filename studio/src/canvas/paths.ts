/** Masks as paths in pixels of the picture, crisp however far one zooms in. */

import { coarse, rings, type Ring } from "../core/contour";
import type { Mask } from "../core/mask";

const outlines = new WeakMap<Mask, readonly Ring[]>();
const paths = new WeakMap<Mask, Map<number, Path2D>>();

export function ringsOf(mask: Mask): readonly Ring[] {
  let found = outlines.get(mask);
  if (found === undefined) {
    found = rings(mask);
    outlines.set(mask, found);
  }
  return found;
}

/** The outline as it is needed where a pixel of the picture covers `scale` of the screen. */
export function pathOf(mask: Mask, scale: number): Path2D {
  const step = scale >= 1 ? 1 : 2 ** Math.floor(Math.log2(1 / scale));
  let steps = paths.get(mask);
  if (steps === undefined) {
    steps = new Map();
    paths.set(mask, steps);
  }
  let path = steps.get(step);
  if (path === undefined) {
    path = joined(ringsOf(mask).map((ring) => coarse(ring, step)));
    steps.set(step, path);
  }
  return path;
}

export function joined(all: readonly (readonly (readonly [number, number])[])[]): Path2D {
  const path = new Path2D();
  for (const ring of all) {
    ring.forEach(([x, y], i) => {
      if (i === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
    });
    path.closePath();
  }
  return path;
}

export interface Look {
  readonly colour: string;
  /** Of the inside, from 0 to 1. */
  readonly opacity: number;
  /** Of the outline, in pixels of the screen. */
  readonly width: number;
  readonly dash?: readonly number[];
}

/** Draws a mask; the context's unit is a pixel of the picture, which covers `scale` of the screen. */
export function drawMask(context: CanvasRenderingContext2D, mask: Mask, scale: number, look: Look): void {
  if (mask.box.width === 0) return;
  const path = pathOf(mask, scale);
  if (look.opacity > 0) {
    context.globalAlpha = look.opacity;
    context.fillStyle = look.colour;
    context.fill(path, "evenodd");
    context.globalAlpha = 1;
  }
  if (look.width === 0) return;
  context.lineJoin = "round";
  context.setLineDash((look.dash ?? []).map((length) => length / scale));
  // Light under dark, so that it is seen on any picture.
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.lineWidth = (look.width + 1.5) / scale;
  context.stroke(path);
  context.strokeStyle = look.colour;
  context.lineWidth = look.width / scale;
  context.stroke(path);
  context.setLineDash([]);
}
