/** Selects objects; a double click corrects one with further clicks. */

import { has } from "../../core/mask";
import type { Studio } from "../../state/studio";
import { type Scene, type Tool, type Touch } from "../tool";

export const select: Tool = {
  cursor: "default",
  hint: ({ selection }: Studio): string =>
    selection.value.length === 0
      ? "Click on an object to select it; with Ctrl one more."
      : "R or a double click corrects it with clicks; B, E and P by hand. A digit gives it a class, Delete removes it.",
  down({ studio }: Scene, { at, isAdding, clicks }: Touch): void {
    const [x, y] = [Math.floor(at[0]), Math.floor(at[1])];
    const hidden = studio.hidden.peek();
    const met = studio.objects.peek().findLast(({ id, mask }) => !hidden.has(id) && has(mask, x, y));
    studio.select(met?.id ?? null, isAdding);
    if (met !== undefined && clicks > 1) studio.prompting.refine(met, met.mask);
  },
};
