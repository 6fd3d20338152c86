/** Adds to a mask by hand, or takes away from it. */

import { stroke } from "../../core/mask";
import type { Point } from "../../core/view";
import type { Studio } from "../../state/studio";
import { type Scene, type Tool, type Touch } from "../tool";

export class Brush implements Tool {
  readonly cursor = "none";
  private line: Point[] = [];
  private at: Point | null = null;
  private isErasing = false;

  constructor(private readonly erases: boolean) {}

  hint(studio: Studio): string {
    if (studio.prompting.draft.value !== null) {
      return `The ${this.name} changes the mask that is being made. Enter keeps it, Escape gives it up.`;
    }
    const [object, other] = studio.selection.value;
    if (object === undefined) {
      return this.erases
        ? "The eraser takes from what is selected: select an object first (V)."
        : "A stroke begins a new object; the right button erases.";
    }
    const kind = studio.classOf(object)?.name ?? "no class";
    const which = other === undefined ? "the selected object" : "the lowest of the selected objects";
    return `The ${this.name} changes ${which} (${kind}). Enter or Escape lets go of it${this.erases ? "" : ": the next stroke begins a new one"}.`;
  }

  private get name(): string {
    return this.erases ? "eraser" : "brush";
  }

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
    const colour = colourOf(studio);
    if (this.line.length > 0) {
      context.beginPath();
      this.line.forEach(([x, y], i) => {
        if (i === 0) context.moveTo(x, y);
        context.lineTo(x, y);
      });
      context.lineCap = context.lineJoin = "round";
      context.lineWidth = 2 * radius;
      context.globalAlpha = 0.5;
      context.strokeStyle = this.isErasing ? "#f33" : colour;
      context.stroke();
      context.globalAlpha = 1;
    }
    if (this.at === null) return;
    for (const [ring, width] of [
      ["#000", 4.5],
      ["#fff", 3],
      [colour, 2],
    ] as const) {
      context.beginPath();
      context.arc(this.at[0], this.at[1], radius, 0, 2 * Math.PI);
      if (!this.erases && studio.target.peek() === null) plus(context, this.at, 4 / view.scale);
      context.lineWidth = width / view.scale;
      context.strokeStyle = ring;
      context.stroke();
    }
  }
}

/** Of what the brush changes, or begins. */
function colourOf(studio: Studio): string {
  const [object] = studio.prompting.draft.peek() === null ? studio.selection.peek() : [];
  return object === undefined ? studio.nextColour.peek() : studio.colourOf(object);
}

/** Something new begins here. */
function plus(context: CanvasRenderingContext2D, [x, y]: Point, arm: number): void {
  context.moveTo(x - arm, y);
  context.lineTo(x + arm, y);
  context.moveTo(x, y - arm);
  context.lineTo(x, y + arm);
}
