/** Moves the picture: the stage does it. */

import type { Tool } from "../tool";

export const hand: Tool = {
  cursor: "grab",
  hint: () => "Drag to move the picture; the wheel enlarges it.",
};
