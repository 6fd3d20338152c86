/** Masks that are told as run lengths, and decoded when they are first looked at: most are not. */

import type { Mask } from "./mask";
import { decode, encode, type Rle } from "./rle";

/** The same with its mask as run lengths. */
export type Told<T extends { readonly mask: Mask }> = Omit<T, "mask"> & { readonly mask: Rle };

const runs = new WeakMap<object, Rle>();

export function lazily<T extends object>(rest: T, rle: Rle): T & { readonly mask: Mask } {
  let mask: Mask | undefined;
  runs.set(rest, rle);
  return Object.defineProperty(rest, "mask", {
    enumerable: true,
    get: () => (mask ??= decode(rle)),
  }) as T & { readonly mask: Mask };
}

/** The run lengths of something's mask, as they were told. */
export function runsOf(thing: { readonly mask: Mask }): Rle {
  return runs.get(thing) ?? encode(thing.mask);
}
