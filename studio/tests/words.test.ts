import { expect, it } from "vitest";

import { counted, freeName } from "../src/core/words";

it("one of a thing is no plural", () => {
  expect([0, 1, 2].map((count) => counted(count, "object"))).toEqual(["0 objects", "1 object", "2 objects"]);
});

it("a name that is taken gets a number", () => {
  expect(freeName("a", new Set(["b"]))).toBe("a");
  expect(freeName("a", new Set(["a", "a-2"]))).toBe("a-3");
});
