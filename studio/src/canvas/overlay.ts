/** The objects that rest, drawn once and moved with the picture: many of them cost nothing while one pans. */

import type { View } from "../core/view";

/** How much more than the screen is drawn, on each side, as a share of it. */
const MARGIN = 0.5;
/** Milliseconds without a change of scale after which it is drawn anew, crisp. */
const SETTLED = 120;

export class Overlay {
  private readonly canvas = document.createElement("canvas");
  private drawn: { readonly view: View; readonly screen: readonly [number, number] } | null = null;
  private timer: number | undefined;

  constructor(private readonly onSettled: () => void) {}

  /** What is drawn is not as it should be any more. */
  invalidate(): void {
    this.drawn = null;
  }

  draw(
    context: CanvasRenderingContext2D,
    view: View,
    screen: readonly [number, number],
    ratio: number,
    paint: (context: CanvasRenderingContext2D, view: View) => void,
  ): void {
    const { drawn } = this;
    if (drawn === null || drawn.screen[0] !== screen[0] || drawn.screen[1] !== screen[1]) {
      this.render(view, screen, ratio, paint);
    } else if (drawn.view.scale !== view.scale) {
      // While one zooms, what is there is enlarged.
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => {
        this.invalidate();
        this.onSettled();
      }, SETTLED);
    } else {
      const [dx, dy] = [view.x - drawn.view.x, view.y - drawn.view.y];
      if (Math.abs(dx) > MARGIN * screen[0] || Math.abs(dy) > MARGIN * screen[1]) {
        this.render(view, screen, ratio, paint);
      }
    }
    this.blit(context, view, screen, ratio);
  }

  private render(
    view: View,
    screen: readonly [number, number],
    ratio: number,
    paint: (context: CanvasRenderingContext2D, view: View) => void,
  ): void {
    clearTimeout(this.timer);
    const [width, height] = screen.map((side) => Math.ceil(side * (1 + 2 * MARGIN) * ratio)) as [number, number];
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    const moved = { scale: view.scale, x: view.x + MARGIN * screen[0], y: view.y + MARGIN * screen[1] };
    context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, moved.x * ratio, moved.y * ratio);
    paint(context, moved);
    this.drawn = { view, screen };
  }

  private blit(
    context: CanvasRenderingContext2D,
    view: View,
    screen: readonly [number, number],
    ratio: number,
  ): void {
    if (this.drawn === null) return;
    const before = this.drawn.view;
    const by = view.scale / before.scale;
    const [width, height] = screen;
    const x = view.x - (before.x + MARGIN * width) * by;
    const y = view.y - (before.y + MARGIN * height) * by;
    if (by !== 1) {
      context.drawImage(this.canvas, x, y, (this.canvas.width / ratio) * by, (this.canvas.height / ratio) * by);
      return;
    }
    // Moved by whole pixels of the screen it is copied as it is.
    context.save();
    context.imageSmoothingEnabled = false;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.canvas, Math.round(x * ratio), Math.round(y * ratio));
    context.restore();
  }
}
