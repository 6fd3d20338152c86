/** What the server tells of a fine-tune. */

export type TrainingState =
  | "idle"
  | "preparing"
  | "training"
  | "ranking"
  | "measuring"
  | "done"
  | "stopped"
  | "failed";

/** Means over some steps, of which `step` is the last; IoU from 0 to 1. */
export interface Point {
  readonly step: number;
  readonly loss: number;
  readonly oracle: number;
  readonly automatic: number;
}

/** Mean IoU after one click on each of some objects from which nothing was learnt. */
export interface Measured {
  readonly chosen: number;
  readonly best: number;
  readonly objects: number;
}

export interface TrainingInfo {
  readonly state: TrainingState;
  readonly stopping: boolean;
  readonly name: string | null;
  readonly folder: string | null;
  readonly step: number;
  readonly steps: number;
  /** Of what `state` says, from 0 to 1. */
  readonly progress: number;
  readonly seconds_left: number | null;
  readonly now: Point | null;
  readonly curve: readonly Point[];
  readonly validation: readonly Point[];
  readonly before: Measured | null;
  readonly after: Measured | null;
  readonly checkpoint: string | null;
  readonly notes: readonly string[];
  readonly error: string | null;
}

export interface TrainingRequest {
  readonly name: string;
  readonly steps: number;
  readonly checked_only: boolean;
}

const AT_WORK: readonly TrainingState[] = ["preparing", "training", "ranking", "measuring"];

export function isAtWork(info: TrainingInfo | null): boolean {
  return info !== null && AT_WORK.includes(info.state);
}

/** What the next fine-tune is called: one that has no model yet goes on, others get a number. */
export function nextName(project: string, last: TrainingInfo | null): string {
  if (last?.name == null) return `${project}-tuned`;
  if (last.state !== "done") return last.name;
  const [, stem = last.name, number = "1"] = /^(.*?)(?:-(\d+))?$/.exec(last.name) ?? [];
  return `${stem}-${Number(number) + 1}`;
}

/** The line of a curve in a box of 100 by 100, whose lower edge is `low`. */
export function lineOf(values: readonly number[], [low, high]: readonly [number, number]): string {
  const span = Math.max(high - low, 1e-9);
  const x = (i: number): number => (values.length === 1 ? 50 : (100 * i) / (values.length - 1));
  const y = (value: number): number => 100 - (100 * Math.min(1, Math.max(0, (value - low) / span)));
  return values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
}

/** A time for people. */
export function timeOf(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
