/** Draws what lies on the picture. The context's unit is a pixel of the picture, which covers `scale` of the screen. */

import type { Click } from "../core/prompt";
import type { Point } from "../core/view";
import type { Studio } from "../state/studio";
import { drawMask } from "./paths";

/** The objects that rest. */
export function drawObjects(context: CanvasRenderingContext2D, studio: Studio, scale: number): void {
  const opacity = studio.settings.opacity.peek();
  const [hidden, selected] = [studio.hidden.peek(), studio.selected.peek()];
  const base = studio.prompting.draft.peek()?.base?.id;
  for (const object of studio.objects.peek()) {
    if (hidden.has(object.id) || object.id === base) continue;
    const isSelected = selected.has(object.id);
    const look = { colour: studio.colourOf(object), opacity, width: isSelected ? 3 : 1.25 };
    drawMask(context, object.mask, scale, look);
    if (isSelected) {
      const white = { colour: "#fff", opacity: 0, width: 1.25, dash: [5, 5] };
      drawMask(context, object.mask, scale, white);
    }
  }
}

/** What is being made, or could be. */
export function drawMade(context: CanvasRenderingContext2D, studio: Studio, scale: number): void {
  const opacity = Math.max(0.15, studio.settings.opacity.peek());
  const colour = studio.nextColour.peek();
  drawEverything(context, studio, scale, { colour, opacity, width: 2 });
  const { draft, preview, mask } = studio.prompting;
  const [now, shown, made] = [draft.peek(), preview.peek(), mask.peek()];
  if (shown !== null && now === null) {
    const candidate = shown.answer.candidates[shown.chosen];
    const look = { colour, opacity: opacity * 0.7, width: 1.25, dash: [4, 3] };
    if (candidate !== undefined) drawMask(context, candidate.mask, scale, look);
  }
  for (const mask of studio.saving.masks.peek()) drawMask(context, mask, scale, { colour, opacity, width: 1.25 });
  if (made !== null) drawMask(context, made, scale, { colour, opacity, width: 2 });
  if (now?.box) {
    const [x0, y0, x1, y1] = now.box;
    context.lineWidth = 1.5 / scale;
    context.strokeStyle = "#fff";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  for (const click of now?.clicks ?? []) drawClick(context, click, scale);
}

function drawEverything(
  context: CanvasRenderingContext2D,
  { everything }: Studio,
  scale: number,
  pointed: { readonly colour: string; readonly opacity: number; readonly width: number },
): void {
  const [nodes, at] = [everything.nodes.peek(), everything.current.peek()];
  nodes.forEach(({ mask }, i) => {
    if (i !== at) drawMask(context, mask, scale, { colour: "#fff", opacity: 0, width: 0.75 });
  });
  const node = at === null ? undefined : nodes[at];
  if (node !== undefined) drawMask(context, node.mask, scale, pointed);
}

/** Where the keys point. */
export function drawCursor(context: CanvasRenderingContext2D, at: Point, scale: number): void {
  const [inner, outer] = [4 / scale, 14 / scale];
  for (const [colour, width] of [
    ["#000", 3],
    ["#fff", 1.25],
  ] as const) {
    context.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const) {
      context.moveTo(at[0] + dx * inner, at[1] + dy * inner);
      context.lineTo(at[0] + dx * outer, at[1] + dy * outer);
    }
    context.strokeStyle = colour;
    context.lineWidth = width / scale;
    context.stroke();
  }
}

function drawClick(context: CanvasRenderingContext2D, [x, y, label]: Click, scale: number): void {
  const radius = 6 / scale;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = label === 1 ? "#12a150" : "#e5243b";
  context.fill();
  context.lineWidth = 2 / scale;
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - radius / 2, y);
  context.lineTo(x + radius / 2, y);
  if (label === 1) {
    context.moveTo(x, y - radius / 2);
    context.lineTo(x, y + radius / 2);
  }
  context.stroke();
}
