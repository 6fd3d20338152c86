/** The masks that answer a prompt: their order, and what they are called. */

import { lazily, runsOf, type Told } from "./lazily";
import { area, type Mask } from "./mask";
import type { Rle } from "./rle";

export type Level = "whole" | "part" | "subpart";

/** One of the masks that answer a prompt. */
export interface Candidate {
  readonly index: number | null;
  readonly predicted_iou: number | null;
  readonly match_probability: number | null;
  readonly expected_iou: number | null;
  readonly stability_score: number | null;
  readonly granularity: Level | null;
  readonly mask: Mask;
}

export interface Answer {
  /** By which a correction names it. */
  readonly id: string;
  /** Whole, part and subpart, or one. */
  readonly candidates: readonly Candidate[];
  /** The place of the proposed one among them. */
  readonly selected: number;
  /** The masks were drawn from a crop, which shows a small object larger. */
  readonly isCloser: boolean;
  readonly reason: string;
  readonly warnings: readonly string[];
}

type WireCandidate = Omit<Candidate, "mask"> & { readonly segmentation: Rle };

export interface WireAnswer {
  readonly objects: readonly {
    readonly id: string;
    readonly candidates: readonly WireCandidate[];
    readonly selected: WireCandidate & { readonly reason: string };
    /** The part of the picture that was looked at once more. */
    readonly zoom: object | null;
    readonly warnings: readonly string[];
  }[];
}

const LEVELS: readonly Level[] = ["whole", "part", "subpart"];

type Levelled = Pick<Candidate, "granularity" | "mask">;

function rank({ granularity }: Levelled): number {
  return granularity === null ? LEVELS.length : LEVELS.indexOf(granularity);
}

/** From the whole to the subpart, and the larger of two of the same level first. */
export function inOrder<T extends Levelled>(candidates: readonly T[]): readonly T[] {
  return [...candidates].sort((a, b) => rank(a) - rank(b) || area(b.mask) - area(a.mask));
}

const OF_TWO = ["larger", "smaller"] as const;
const OF_THREE = ["largest", "middle", "smallest"] as const;

/** What candidates in this order are called: by their level, and by their size where several have the same. */
export function namesOf(candidates: readonly Levelled[]): readonly string[] {
  return candidates.map(({ granularity }, i) => {
    if (granularity === null) return `mask ${i + 1}`;
    const same = candidates.filter((other) => other.granularity === granularity);
    const before = candidates.slice(0, i).filter((other) => other.granularity === granularity).length;
    if (same.length === 1) return granularity;
    const size = (same.length === 2 ? OF_TWO : OF_THREE)[before];
    return size === undefined ? `${granularity} ${before + 1}` : `${size} ${granularity}`;
  });
}

/** One for each prompt. */
export function answersOf({ objects }: WireAnswer): readonly Answer[] {
  return objects.map(answerOf);
}

function answerOf(object: WireAnswer["objects"][number]): Answer {
  const candidates = inOrder(object.candidates.map(({ segmentation, ...rest }) => lazily(rest, segmentation)));
  const selected = candidates.findIndex(({ index }) => index === object.selected.index);
  return {
    id: object.id,
    candidates,
    selected: Math.max(0, selected),
    isCloser: object.zoom !== null,
    reason: object.selected.reason.replace(/^candidate \d+: /, ""),
    warnings: object.warnings,
  };
}

/** An answer that can be written as JSON. */
export type ToldAnswer = Omit<Answer, "candidates"> & { readonly candidates: readonly Told<Candidate>[] };

export function toTold(answer: Answer): ToldAnswer {
  const candidates = answer.candidates.map((candidate) => {
    const { index, predicted_iou, match_probability, expected_iou, stability_score, granularity } = candidate;
    const numbers = { index, predicted_iou, match_probability, expected_iou, stability_score, granularity };
    return { ...numbers, mask: runsOf(candidate) };
  });
  return { ...answer, candidates };
}

export function fromTold(told: ToldAnswer): Answer {
  return { ...told, candidates: told.candidates.map(({ mask, ...rest }) => lazily(rest, mask)) };
}
