import type { Page } from "@playwright/test";

import { StudioPage } from "./page";
import { expect, test } from "./server";

const ACTIONS = 500;
const SEED = 7;

/** Numbers from 0 to 1, the same ones every time (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Everything that the page has asked for is kept. */
async function settled(page: Page): Promise<void> {
  await expect(page.locator(".status")).toContainText("Saved");
}

test("500 actions at random, undone and redone, are what they were", async ({ page, studio }) => {
  test.setTimeout(300_000);
  const random = randomOf(SEED);
  const at = new StudioPage(page, studio);
  await at.open();
  for (const name of ["cup", "table"]) {
    await page.getByLabel("Name of a new class").fill(name);
    await page.keyboard.press("Enter");
    await expect(page.locator(".class", { hasText: name })).toBeVisible();
  }
  await at.canvas.focus();

  const place = (): [number, number] => [20 + 560 * random(), 20 + 360 * random()];
  const press = async (key: string): Promise<void> => page.keyboard.press(key);
  const stroke = async (tool: string): Promise<void> => {
    await press(tool);
    await at.drag(place(), place());
  };
  const actions: readonly (readonly [weight: number, act: () => Promise<unknown>])[] = [
    [4, () => stroke("b")],
    [2, async () => { await press("Escape"); await stroke("b"); }],
    [3, () => stroke("e")],
    [2, async () => { await press("v"); await at.click(place()); }],
    [2, () => press("o")],
    [2, () => press(random() < 0.5 ? "Shift+Digit1" : "Shift+Digit2")],
    [1, () => press("Delete")],
    [1, () => press(random() < 0.5 ? "Control+]" : "Control+[")],
    [1, async () => { await press("Control+a"); await press(random() < 0.7 ? "x" : "u"); }],
    [1, async () => { await press("Control+c"); await press("Control+v"); }],
    [1, async () => {
      await press("s");
      await at.click(place());
      await at.answered();
      if (random() < 0.3) {
        // What is given up comes back.
        await press("Escape");
        await expect(at.button("Keep")).toHaveCount(0);
        await press("Control+z");
        await at.answered();
      }
      await press("Enter");
    }],
  ];
  const total = actions.reduce((sum, [weight]) => sum + weight, 0);
  const any = (): (() => Promise<unknown>) => {
    let rest = total * random();
    for (const [weight, act] of actions) if ((rest -= weight) < 0) return act;
    throw new Error("no action");
  };
  const now = async (): Promise<{ revision: number; state: string }> => {
    await settled(page);
    const { revision, objects, checked } = await at.told();
    return { revision, state: JSON.stringify({ objects, checked }) };
  };

  let before = await now();
  // What the picture was after every action, and where among them it is.
  let states = [before.state];
  let step = 0;
  for (let i = 0; i < ACTIONS; i++) {
    const kind = random();
    if (kind < 0.3) {
      await press("Control+z");
      step = Math.max(0, step - 1);
    } else if (kind < 0.42) {
      await press("Control+y");
      step = Math.min(states.length - 1, step + 1);
    } else {
      await any()();
    }
    const after = await now();
    if (kind >= 0.42 && after.revision !== before.revision) {
      states = [...states.slice(0, ++step), after.state];
    }
    expect(after.state, `after action ${i}`).toBe(states[step]);
    before = after;
  }
  await expect(at.objects).toHaveCount((await at.told()).objects.length);
  expect(states.length).toBeGreaterThan(20);

  for (; step > 0; step--) {
    await press("Control+z");
    expect((await now()).state).toBe(states[step - 1]);
  }
  await expect(at.objects).toHaveCount(0);
  for (const state of states.slice(1)) {
    await press("Control+y");
    expect((await now()).state).toBe(state);
  }
  await page.reload();
  await at.show("coffee.png");
  await expect(at.objects).toHaveCount((await at.told()).objects.length);
});
