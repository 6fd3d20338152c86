/** Picks from everything that was found in the picture. */

import { type Scene, type Tool, type Touch } from "../tool";

export const pick: Tool = {
  cursor: "pointer",
  hint: () => "A click or Enter picks the mask; arrows or the wheel go from a subpart to its part and its whole. Escape ends it.",
  hover({ studio }: Scene, { at }: Touch): void {
    studio.everything.point(at);
  },
  leave({ studio }: Scene): void {
    studio.everything.current.value = null;
  },
  up({ studio }: Scene, { at }: Touch): void {
    studio.everything.point(at);
    void studio.everything.pick();
  },
  cancel({ studio }: Scene): boolean {
    const wasShown = studio.everything.isShown.peek();
    studio.everything.clear();
    return wasShown;
  },
};
