import { StudioPage, areaOf } from "./page";
import { expect, test } from "./server";

/** The cup on docs/coffee.png, and the saucer beside it. */
const CUP = [290, 150] as const;
const BACKGROUND = [40, 40] as const;

test("a click, three masks, and the right one is kept", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.hover(CUP);
  await expect(page.getByRole("heading", { name: "Under the pointer" })).toBeVisible();
  await expect(at.candidates).toHaveCount(3);

  await at.click(CUP);
  await at.answered();
  await expect(at.candidates).toHaveCount(3);
  await expect(page.locator(".reason")).toContainText(/Whole|Part|Subpart/);
  for (const [key, name] of [["1", "whole"], ["3", "subpart"], ["2", "part"]] as const) {
    await page.keyboard.press(key);
    await expect(at.candidates.filter({ hasText: name }).first()).toHaveAttribute("aria-checked", "true");
  }
  await page.keyboard.press("Tab");
  await expect(at.candidates.nth(2)).toHaveAttribute("aria-checked", "true");
  await page.mouse.wheel(0, -100);
  await expect(at.candidates.nth(1)).toHaveAttribute("aria-checked", "true");
  await page.mouse.wheel(0, -100);
  await expect(at.candidates.nth(0)).toHaveAttribute("aria-checked", "true");

  await at.keep(1);
  const [object] = (await at.told()).objects;
  expect(object).toMatchObject({ author: "me", class: null });
  expect(object?.predicted_iou).toBeGreaterThan(0.5);
  expect(areaOf(object)).toBeGreaterThan(1000);
});

test("clicks correct a mask, and are taken back one by one", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.click(CUP);
  await at.answered();
  await at.click([420, 200]);
  await expect(at.candidates).toHaveCount(1);
  await at.click(BACKGROUND, { button: "right" });
  await at.answered();
  await page.keyboard.down("Alt");
  await at.click([60, 350]);
  await page.keyboard.up("Alt");
  await at.answered();
  for (let i = 0; i < 3; i++) await page.keyboard.press("Control+z");
  await expect(at.candidates).toHaveCount(3);
  await page.keyboard.press("Control+Shift+Z");
  await expect(at.candidates).toHaveCount(1);
  // A click on a click takes it back.
  await at.click([420, 200]);
  await expect(at.candidates).toHaveCount(3);
  await page.keyboard.press("Control+z");
  await expect(at.candidates).toHaveCount(1);
  await page.keyboard.press("Escape");
  await expect(at.button("Keep")).toHaveCount(0);
  expect((await at.told()).objects).toEqual([]);
});

test("a box is dragged, and the tool stays for the next object", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.drag([160, 40], [440, 300]);
  await at.answered();
  await at.keep(1);
  await at.segment([60, 350]);
  await expect(at.objects).toHaveCount(2);
  await expect(at.button(/^Segment/)).toHaveAttribute("aria-pressed", "true");
});

test("boxes with Shift are masked and kept one after the other", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.keyboard.down("Shift");
  await at.drag([160, 40], [440, 300]);
  await at.drag([330, 230], [410, 330]);
  await page.keyboard.up("Shift");
  await expect(at.objects).toHaveCount(2);
  expect((await at.told()).objects.every(({ predicted_iou }) => (predicted_iou ?? 0) > 0.5)).toBe(true);
});

test("everything by keys alone", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.canvas.focus();
  await page.keyboard.press("Space");
  for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowUp");
  await expect(page.getByRole("heading", { name: "Under the pointer" })).toBeVisible();
  await page.keyboard.press("Space");
  await at.answered();
  await page.keyboard.press("1");
  await page.keyboard.press("Shift+ArrowLeft");
  await page.keyboard.press("Shift+Space");
  await at.answered();
  await at.keep(1);

  // A box: press, go, let go.
  await page.keyboard.press("d");
  for (let i = 0; i < 3; i++) await page.keyboard.press("Shift+ArrowRight");
  for (let i = 0; i < 3; i++) await page.keyboard.press("Shift+ArrowDown");
  await page.keyboard.press("d");
  await at.answered();
  await at.keep(2);

  await page.keyboard.press("b");
  await page.keyboard.press("Space");
  await expect(at.objects).toHaveCount(3);
  await page.keyboard.press("Delete");
  await expect(at.objects).toHaveCount(2);
  await page.keyboard.press("c");
  await expect(page.locator(".done")).toHaveText(/^1 \/ \d+ checked$/);
  expect((await at.told()).checked).toBe(true);
});

test("everything is found, walked through and picked from", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.keyboard.press("a");
  await expect(at.button(/^Stop|^Find/)).toBeVisible();
  await expect(at.button("Find everything")).toHaveAttribute("aria-pressed", "true", { timeout: 40_000 });
  await at.canvas.focus();
  const all = Number(/\d+/.exec(await at.button(/^Pick all/).innerText())?.[0]);
  await at.button(/^Pick all/).click();
  await expect(at.objects).toHaveCount(all);
  await page.keyboard.press("Control+z");
  await expect(at.objects).toHaveCount(0);
  await page.keyboard.press("a");
  await expect(at.button("Find everything")).toHaveAttribute("aria-pressed", "true", { timeout: 40_000 });
  await at.canvas.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await expect(at.objects).toHaveCount(1);
  await at.click(CUP);
  await expect(at.objects).toHaveCount(2);
  await page.keyboard.press("Escape");
  await expect(at.button("Find everything")).toHaveAttribute("aria-pressed", "false");
});

test("an object, and a mask from elsewhere, are refined with clicks", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment(CUP);
  const before = (await at.told()).objects[0];
  await page.keyboard.press("v");
  await at.click(CUP);
  await page.keyboard.press("r");
  await at.click([420, 200], { button: "right" });
  await at.answered();
  await at.keep(1);
  const after = (await at.told()).objects[0];
  expect(after?.id).toBe(before?.id);
  expect(after?.mask).not.toEqual(before?.mask);

  const png = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(600, 400);
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("no canvas");
    context.fillStyle = "#000";
    context.fillRect(0, 0, 600, 400);
    context.fillStyle = "#fff";
    context.fillRect(100, 100, 50, 40);
    const bytes = await (await canvas.convertToBlob()).arrayBuffer();
    return [...new Uint8Array(bytes)];
  });
  const file = { name: "mask.png", mimeType: "image/png", buffer: Buffer.from(png) };
  await page.getByLabel("A mask to refine").setInputFiles(file);
  await expect(at.button("Keep")).toBeVisible();
  await at.keep(2);
  const added = (await at.told()).objects[1];
  expect(areaOf(added)).toBe(2000);
});
