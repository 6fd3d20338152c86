/** An object that is being made: clicks, a box, what was drawn by hand, and the masks that the model answers. */

import type { Answer } from "../core/answer";
import type { NewObject, StoredObject } from "../core/api";
import { innermost } from "../core/innermost";
import type { Mask } from "../core/mask";
import { keptPrompt, type Click, type Corners, type Prompt } from "../core/prompt";
import { encode } from "../core/rle";

export interface Draft {
  /** The object that is being corrected; null for a new one. */
  readonly base: StoredObject | null;
  readonly clicks: readonly Click[];
  readonly box: Corners | null;
  /** A mask that the model starts from: of the object that is corrected, imported, or drawn. */
  readonly seed: Mask | null;
  /** The answer to all of this, or to all but what came last while that `isWaiting`; null before the first. */
  readonly answer: Answer | null;
  readonly isWaiting: boolean;
  /** Small objects are looked at once more, from a crop. */
  readonly isCloser: boolean;
  /** Which of the candidates. */
  readonly chosen: number;
  /** The mask as it was changed by hand since. */
  readonly drawn: Mask | null;
}

export const BLANK: Draft = {
  base: null,
  clicks: [],
  box: null,
  seed: null,
  answer: null,
  isWaiting: false,
  isCloser: false,
  chosen: 0,
  drawn: null,
};

/** An object is gone on with, or a mask that comes from elsewhere; its own clicks and box are there again. */
export function refining(base: StoredObject | null, seed: Mask): Draft {
  return { ...BLANK, base, seed, ...keptPrompt(base?.prompt, seed.size) };
}

/** The mask that would be kept now. */
export function maskOf(draft: Draft): Mask | null {
  return draft.drawn ?? draft.answer?.candidates[draft.chosen]?.mask ?? draft.seed;
}

/** One more click. What was drawn by hand is what the model goes on from. */
export function clicked(draft: Draft, click: Click): Draft {
  const clicks = draft.drawn === null ? [...draft.clicks, click] : [click];
  return { ...fixed(draft), clicks, isWaiting: true };
}

export function boxed(draft: Draft, box: Corners): Draft {
  return { ...fixed(draft), box, isWaiting: true };
}

function fixed(draft: Draft): Draft {
  return draft.drawn === null ? draft : { ...draft, seed: draft.drawn, drawn: null, answer: null, box: null };
}

/** What the model is asked: a correction names the mask that it corrects. */
export function promptOf(draft: Draft): Prompt {
  const { clicks, box, seed, answer, chosen } = draft;
  const before = answer?.candidates[chosen];
  const isCorrection = clicks.length + (box === null ? 0 : 1) > 1;
  const points = seed === null ? clicks : anchored(clicks, before?.mask ?? seed);
  const prompt: Prompt = {
    ...(points.length > 0 && { points }),
    ...(box !== null && { box }),
    ...(isCorrection && { single: true }),
  };
  if (isCorrection && answer !== null && before !== undefined) {
    const candidate = before.index === null ? {} : { candidate: before.index };
    return { ...prompt, mask: { answer: { id: answer.id, ...candidate } } };
  }
  return seed === null ? prompt : { ...prompt, mask: { rle: encode(seed) }, single: true };
}

/** Points on an object that a correction has at least. */
const ANCHORS = 3;

/** A mask alone says little to the model, and a click beside the object less: points inside the mask hold it. */
function anchored(clicks: readonly Click[], mask: Mask): readonly Click[] {
  const missing = ANCHORS - clicks.filter(([, , label]) => label === 1).length;
  if (missing <= 0) return clicks;
  const inside = innermost(mask, missing, clicks.map(([x, y]) => [x, y]));
  return [...inside.map(([x, y]): Click => [x, y, 1]), ...clicks];
}

/** The same without what only the server's memory of an earlier answer gives. */
export function freshPromptOf(draft: Draft): Prompt {
  return promptOf({ ...draft, answer: null });
}

export function isEmpty(draft: Draft): boolean {
  return draft.clicks.length === 0 && draft.box === null && draft.seed === null && draft.drawn === null;
}

/** What is kept of it as an object. */
export function objectOf(draft: Draft, mask: Mask, kind: number | null): NewObject {
  const candidate = draft.drawn === null ? draft.answer?.candidates[draft.chosen] : undefined;
  const { clicks, box } = draft;
  return {
    mask,
    class: draft.base?.class ?? kind,
    predicted_iou: candidate?.predicted_iou ?? null,
    prompt: candidate === undefined ? null : { points: clicks, box, level: candidate.granularity },
    attributes: draft.base?.attributes ?? {},
  };
}
