/** An object that is being made, as text: what a reload of the page needs to bring it back. */

import { fromTold, toTold, type ToldAnswer } from "../core/answer";
import type { StoredObject } from "../core/api";
import { decode, encode, type Rle } from "../core/rle";
import type { Draft } from "./draft";

interface Saved extends Omit<Draft, "base" | "seed" | "drawn" | "answer"> {
  readonly base: number | null;
  readonly seed: Rle | null;
  readonly drawn: Rle | null;
  readonly answer: ToldAnswer | null;
}

export function toText(draft: Draft): string {
  const { base, seed, drawn, answer } = draft;
  const saved: Saved = {
    ...draft,
    base: base?.id ?? null,
    seed: seed && encode(seed),
    drawn: drawn && encode(drawn),
    answer: answer && toTold(answer),
  };
  return JSON.stringify(saved);
}

/** The draft of a text, unless it fits the picture and its objects no longer. */
export function fromText(
  text: string,
  objects: readonly StoredObject[],
  [width, height]: readonly [number, number],
): Draft | null {
  const saved = JSON.parse(text) as Saved;
  const base = objects.find(({ id }) => id === saved.base) ?? null;
  if (saved.base !== null && base === null) return null;
  const told = saved.answer?.candidates.map(({ mask }) => mask) ?? [];
  const masks = [saved.seed, saved.drawn, ...told].filter((rle) => rle !== null);
  if (masks.some(({ size }) => size[0] !== height || size[1] !== width)) return null;
  return {
    ...saved,
    base,
    seed: saved.seed && decode(saved.seed),
    drawn: saved.drawn && decode(saved.drawn),
    answer: saved.answer && fromTold(saved.answer),
  };
}
