import { describe, expect, test } from "vitest";

import { isAtWork, lineOf, nextName, timeOf, type TrainingInfo } from "../src/core/training";

const IDLE: TrainingInfo = {
  state: "idle",
  stopping: false,
  name: null,
  folder: null,
  step: 0,
  steps: 0,
  progress: 0,
  seconds_left: null,
  now: null,
  curve: [],
  validation: [],
  before: null,
  after: null,
  checkpoint: null,
  notes: [],
  error: null,
};

describe("a fine-tune", () => {
  test("has a name of its own, and goes on under it", () => {
    expect(nextName("photos", null)).toBe("photos-tuned");
    expect(nextName("photos", IDLE)).toBe("photos-tuned");
    expect(nextName("photos", { ...IDLE, state: "stopped", name: "mine" })).toBe("mine");
    expect(nextName("photos", { ...IDLE, state: "done", name: "mine" })).toBe("mine-2");
    expect(nextName("photos", { ...IDLE, state: "done", name: "mine-9" })).toBe("mine-10");
  });

  test("is at work until it has ended", () => {
    expect([null, IDLE, { ...IDLE, state: "done" as const }].map(isAtWork)).toEqual([false, false, false]);
    expect(isAtWork({ ...IDLE, state: "ranking" })).toBe(true);
  });

  test("is drawn as lines within their box", () => {
    expect(lineOf([], [0, 1])).toBe("");
    expect(lineOf([0.5], [0, 1])).toBe("50.0,50.0");
    expect(lineOf([0, 1, 3], [0, 2])).toBe("0.0,100.0 50.0,50.0 100.0,0.0");
    expect(lineOf([0, 0], [0, 0])).toBe("0.0,100.0 100.0,100.0");
  });

  test("says how long it takes", () => {
    expect([0.2, 42, 100, 7200].map(timeOf)).toEqual(["1 s", "42 s", "2 min", "2.0 h"]);
  });
});
