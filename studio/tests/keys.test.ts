import { expect, it } from "vitest";

import { BINDINGS, bindingOf } from "../src/ui/keys";

const NONE = { code: "", ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };

it("keys do the same with Caps Lock and without", () => {
  const redo = { ...NONE, ctrlKey: true, shiftKey: true };
  for (const key of ["z", "Z"]) {
    expect(bindingOf({ ...redo, key })?.what).toBe("Redo");
    expect(bindingOf({ ...NONE, ctrlKey: true, key })?.what).toBe("Undo");
    expect(bindingOf({ ...NONE, metaKey: true, key })?.what).toBe("Undo");
  }
  for (const key of ["o", "O"]) {
    expect(bindingOf({ ...NONE, key })?.what).toBe("Select the next object");
    expect(bindingOf({ ...NONE, shiftKey: true, key })?.what).toBe("Select the object before");
  }
  expect(bindingOf({ ...NONE, shiftKey: true, key: "!", code: "Digit1" })?.what).toContain("class");
  expect(bindingOf({ ...NONE, key: "PageDown" })?.what).toBe("Next picture, or frame of a video");
});

it("no two keys are the same", () => {
  const keys = BINDINGS.flatMap((binding) => binding.keys.map((key) => key.toLowerCase()));
  expect(new Set(keys).size).toBe(keys.length);
});
