import { describe, expect, it } from "vitest";

import { answersOf, fromTold, inOrder, namesOf, toTold, type Level, type WireAnswer } from "../src/core/answer";
import { area, stroke, type Mask } from "../src/core/mask";
import { encode } from "../src/core/rle";

function disc(radius: number): Mask {
  return stroke([40, 30], [[20, 15]], radius);
}

function some(...levels: readonly (readonly [Level | null, number])[]) {
  return levels.map(([granularity, radius]) => ({ granularity, mask: disc(radius) }));
}

describe("candidates", () => {
  it("go from the whole to the subpart, and from the larger to the smaller", () => {
    const sorted = inOrder(some(["part", 5], ["whole", 6], ["subpart", 2], ["whole", 9]));
    expect(sorted.map(({ granularity }) => granularity)).toEqual(["whole", "whole", "part", "subpart"]);
    expect(area(sorted[0]?.mask ?? disc(0))).toBe(area(disc(9)));
  });

  it("have names that are told apart", () => {
    expect(namesOf(some(["whole", 9], ["part", 5], ["subpart", 2]))).toEqual(["whole", "part", "subpart"]);
    expect(namesOf(some(["whole", 9], ["whole", 6], ["part", 3]))).toEqual(["larger whole", "smaller whole", "part"]);
    const parts = namesOf(some(["part", 9], ["part", 6], ["part", 3]));
    expect(parts).toEqual(["largest part", "middle part", "smallest part"]);
    expect(namesOf(some([null, 9], [null, 6]))).toEqual(["mask 1", "mask 2"]);
  });
});

describe("an answer", () => {
  const numbers = { predicted_iou: 0.9, match_probability: 0.5, expected_iou: 0.8, stability_score: 0.9 };
  const candidate = (index: number, granularity: Level, radius: number) => ({
    ...{ index, granularity, ...numbers },
    segmentation: encode(disc(radius)),
  });
  const candidates = [candidate(0, "subpart", 2), candidate(1, "part", 5), candidate(2, "whole", 9)];
  const selected = { ...candidate(1, "part", 5), reason: "candidate 1: highest expected IoU" };
  const object: WireAnswer["objects"][number] = { id: "a", candidates, selected, zoom: null, warnings: [] };

  it("is read in the order of the page", () => {
    const [answer, ...others] = answersOf({ objects: [object, { ...object, id: "b" }] });
    expect(others.map(({ id }) => id)).toEqual(["b"]);
    expect(answer).toMatchObject({ id: "a", selected: 1, isCloser: false, reason: "highest expected IoU" });
    expect(answer?.candidates.map(({ index }) => index)).toEqual([2, 1, 0]);
  });

  it("is the same after it was written", () => {
    const [answer] = answersOf({ objects: [object] });
    if (answer === undefined) throw new Error("there is no answer");
    const again = fromTold(JSON.parse(JSON.stringify(toTold(answer))) as ReturnType<typeof toTold>);
    expect(again).toEqual(answer);
  });
});
