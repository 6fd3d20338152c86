/** Clicks and boxes: the model makes the mask. */

import type { Studio } from "../../state/studio";
import { held, inside, isDrag, type Scene, type Tool, type Touch } from "../tool";

/** Pixels of the screen within which a click is met. */
const NEAR = 8;

export class Segment implements Tool {
  readonly cursor = "crosshair";
  private from: Touch | null = null;
  private to: Touch | null = null;

  hint({ prompting, open, isReady }: Studio): string {
    const draft = prompting.draft.value;
    if (open.value?.isMissing === true) return "Without the file, objects can only be selected and changed by hand.";
    if (draft === null) {
      if (isReady.value) return "Click on something, or drag a box around it. Right click: not this.";
      return "The model reads the picture. Click already: the answer comes when it is ready.";
    }
    if (draft.isWaiting) return "The mask comes. Further clicks correct it, Enter keeps it.";
    const correct = "a click adds, a right click takes away; Enter keeps the mask, Escape gives it up.";
    if (draft.answer === null) return `This mask is refined: ${correct}`;
    return draft.answer.candidates.length > 1 ? `1, 2, 3 or the wheel choose; ${correct}` : `Corrections: ${correct}`;
  }

  hover({ studio, size }: Scene, { at }: Touch): void {
    studio.prompting.hover(inside(at, size) ? [Math.floor(at[0]) + 0.5, Math.floor(at[1]) + 0.5] : null);
  }

  leave({ studio }: Scene): void {
    studio.prompting.hover(null);
  }

  down(scene: Scene, touch: Touch): void {
    this.from = touch;
    this.to = touch;
    scene.redraw();
  }

  move(scene: Scene, touch: Touch): void {
    this.to = touch;
    scene.redraw();
  }

  up(scene: Scene, touch: Touch): void {
    const { studio, size } = scene;
    const { from } = this;
    this.cancel();
    scene.redraw();
    if (from === null) return;
    if (isDrag(from, touch) && !from.isOther) {
      const [[ax, ay], [bx, by]] = [held(from.at, size), held(touch.at, size)];
      const box = [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)] as const;
      if (box[2] - box[0] < 1 || box[3] - box[1] < 1) return;
      if (from.isAdding) void studio.prompting.keepBox(box);
      else studio.prompting.box(box);
      return;
    }
    const met = this.met(scene, touch);
    if (met !== undefined) studio.prompting.dropClick(met);
    else if (inside(touch.at, size)) {
      const [x, y] = touch.at;
      studio.prompting.click([Math.floor(x) + 0.5, Math.floor(y) + 0.5, touch.isOther ? 0 : 1]);
    }
  }

  /** The click of the draft that lies under the pointer. */
  private met({ studio, view }: Scene, { at }: Touch): number | undefined {
    const clicks = studio.prompting.draft.peek()?.clicks ?? [];
    const found = clicks.findLastIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) * view.scale <= NEAR);
    return found < 0 ? undefined : found;
  }

  cancel(): boolean {
    const wasBusy = this.from !== null;
    this.from = this.to = null;
    return wasBusy;
  }

  draw({ view }: Scene, context: CanvasRenderingContext2D): void {
    const { from, to } = this;
    if (from === null || to === null || !isDrag(from, to) || from.isOther) return;
    context.lineWidth = 1.5 / view.scale;
    context.strokeStyle = "#fff";
    context.strokeRect(from.at[0], from.at[1], to.at[0] - from.at[0], to.at[1] - from.at[1]);
    context.setLineDash([4 / view.scale, 4 / view.scale]);
    context.strokeStyle = "#000";
    context.strokeRect(from.at[0], from.at[1], to.at[0] - from.at[0], to.at[1] - from.at[1]);
    context.setLineDash([]);
  }
}
