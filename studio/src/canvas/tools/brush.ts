/** Adds to a mask by hand, or takes away from it. */

import { stroke } from "../../core/mask";
import type { Point } from "../../core/view";
import { type Scene, type Tool, type Touch } from "../tool";

export class Brush implements Tool {
  readonly cursor = "none";
  private line: Point[] = [];
  private at: Point | null = null;
  private isErasing = false;

  constructor(private readonly erases: boolean) {}

  hover(scene: Scene, { at }: Touch): void {
    this.at = at;
    scene.redraw();
  }

  leave(scene: Scene): void {
    this.at = null;
    scene.redraw();
  }

  down(scene: Scene, touch: Touch): void {
    this.isErasing = this.erases !== touch.isOther;
    this.line = [touch.at];
    this.hover(scene, touch);
  }

  move(scene: Scene, touch: Touch): void {
    this.line.push(touch.at);
    this.hover(scene, touch);
  }

  up(scene: Scene, touch: Touch): void {
    const { studio, size, view } = scene;
    const [line, radius] = [this.line, studio.settings.brush.peek() / view.scale];
    this.cancel(scene);
    this.hover(scene, touch);
    if (line.length > 0) void studio.paint(stroke(size, line, radius), this.isErasing);
  }

  cancel(scene: Scene): boolean {
    const wasBusy = this.line.length > 0;
    this.line = [];
    scene.redraw();
    return wasBusy;
  }

  draw({ studio, view }: Scene, context: CanvasRenderingContext2D): void {
    const radius = studio.settings.brush.peek() / view.scale;
    if (this.line.length > 0) {
      context.beginPath();
      this.line.forEach(([x, y], i) => {
        if (i === 0) context.moveTo(x, y);
        context.lineTo(x, y);
      });
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = 2 * radius;
      context.strokeStyle = this.isErasing ? "rgb(255 60 60 / 45%)" : "rgb(79 157 255 / 55%)";
      context.stroke();
    }
    if (this.at === null) return;
    for (const [colour, width] of [
      ["#000", 2.5],
      ["#fff", 1],
    ] as const) {
      context.beginPath();
      context.arc(this.at[0], this.at[1], radius, 0, 2 * Math.PI);
      context.lineWidth = width / view.scale;
      context.strokeStyle = colour;
      context.stroke();
    }
  }
}
