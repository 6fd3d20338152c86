/** Moves the picture: the stage does it. */

import type { Tool } from "../tool";

export const hand: Tool = { cursor: "grab" };
