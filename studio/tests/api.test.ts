import { describe, expect, it } from "vitest";

import { Api, Problem } from "../src/core/api";
import { area } from "../src/core/mask";

/** A server that answers everything so. */
function answering(status: number, body: unknown, headers: Record<string, string> = {}): [Api, Request[]] {
  const asked: Request[] = [];
  const call = (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    asked.push(new Request(input, init));
    return Promise.resolve(new Response(JSON.stringify(body), { status, headers }));
  };
  return [new Api("http://localhost:8765", undefined, call), asked];
}

const CANDIDATE = {
  index: 0,
  predicted_iou: 0.9,
  match_probability: 0.7,
  expected_iou: 0.8,
  stability_score: 0.95,
  granularity: "whole",
  segmentation: { size: [4, 5], counts: "52207" },
};

describe("the server", () => {
  it("answers a click with masks", async () => {
    const object = {
      id: "a",
      candidates: [CANDIDATE],
      selected: { ...CANDIDATE, reason: "highest expected IoU" },
      zoom: null,
      warnings: [],
    };
    const [api, asked] = answering(200, { objects: [object] });
    const answer = await api.predict("picture", { points: [[1, 2, 1]] });
    expect(answer.selected).toBe(0);
    expect(area(answer.candidates[0]?.mask ?? expect.fail())).toBe(4);
    expect(await asked[0]?.json()).toEqual({ image: { id: "picture" }, prompts: [{ points: [[1, 2, 1]] }] });
  });

  it("says which field is wrong, and when to try again", async () => {
    const [api] = answering(422, { detail: "lies outside", field: "prompts[0]" });
    await expect(api.predict("a", {})).rejects.toThrow("prompts[0]: lies outside");
    const [busy] = answering(429, { detail: "too many" }, { "retry-after": "2" });
    const problem = await busy.predict("a", {}).catch((e: unknown) => e);
    expect(problem).toBeInstanceOf(Problem);
    expect(problem).toMatchObject({ status: 429, retryAfter: 2, message: "too many" });
  });
});
