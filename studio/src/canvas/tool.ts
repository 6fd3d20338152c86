/** What a tool of the canvas is. */

import type { Point, View } from "../core/view";
import type { Studio } from "../state/studio";

/** Where and how the canvas is touched. */
export interface Touch {
  /** In pixels of the picture. */
  readonly at: Point;
  /** In pixels of the screen, from the canvas' corner. */
  readonly screen: Point;
  /** The other button, or Alt: beside the object, or away from it. */
  readonly isOther: boolean;
  /** Control or Command: one more. */
  readonly isAdding: boolean;
  /** How often it was clicked at once. */
  readonly clicks: number;
}

export interface Scene {
  readonly studio: Studio;
  readonly view: View;
  readonly size: Point;
  /** Draws again. */
  readonly redraw: () => void;
}

/** Reacts to the pointer. */
export interface Tool {
  /** As in CSS. */
  readonly cursor: string;
  /** What can be done with it now. */
  hint(studio: Studio): string;
  /** The pointer moves without a button. */
  hover?(scene: Scene, touch: Touch): void;
  leave?(scene: Scene): void;
  down?(scene: Scene, touch: Touch): void;
  move?(scene: Scene, touch: Touch): void;
  up?(scene: Scene, touch: Touch): void;
  /** Gives up what is in the middle; answers whether there was something. */
  cancel?(scene: Scene): boolean;
  /** Takes the last step of what is in the middle back; answers whether there was one. */
  undo?(scene: Scene): boolean;
  /** Ends what is in the middle; answers whether there was something. */
  finish?(scene: Scene): boolean;
  /** Draws on top; the context's unit is a pixel of the picture. */
  draw?(scene: Scene, context: CanvasRenderingContext2D): void;
}

/** Pixels of the screen after which a press is a drag. */
export const DRAG = 4;

export function isDrag(from: Touch, to: Touch): boolean {
  return Math.hypot(to.screen[0] - from.screen[0], to.screen[1] - from.screen[1]) > DRAG;
}

export function inside([x, y]: Point, [width, height]: Point): boolean {
  return x >= 0 && y >= 0 && x < width && y < height;
}

export function held([x, y]: Point, [width, height]: Point): Point {
  return [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
}
