/** A picture in tiles: every level has half the pixels of the one before, on each side. */

/** Pixels along the side of a tile. */
export const SIDE = 512;

/** The level at which one tile shows all. */
export function topLevel(size: readonly [number, number]): number {
  return Math.max(0, Math.ceil(Math.log2(Math.max(...size) / SIDE)));
}
