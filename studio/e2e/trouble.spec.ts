import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { has } from "../src/core/mask";
import { decode } from "../src/core/rle";
import { StudioPage, areaOf } from "./page";
import { expect, test } from "./server";

test("a reload in the middle keeps what is being made", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  await at.click([60, 350]);
  await at.answered();
  await page.reload();
  await at.show("coffee.png");
  await at.answered();
  await expect(at.objects).toHaveCount(1);
  await at.keep(2);
});

test("a reload finds the picture, the class, the chosen mask and what was painted on it", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  for (const name of ["cup", "table"]) {
    await page.getByLabel("Name of a new class").fill(name);
    await page.keyboard.press("Enter");
    await expect(page.locator(".class", { hasText: name })).toHaveAttribute("aria-pressed", "true");
  }
  await at.canvas.focus();
  await at.click([290, 150]);
  await at.answered();
  await page.keyboard.press("3");
  await expect(at.candidates.nth(2)).toHaveAttribute("aria-checked", "true");
  const reloaded = async (): Promise<void> => {
    await page.reload();
    await expect(page.locator(".status")).toContainText("coffee.png");
    await at.answered();
    await expect(at.candidates.nth(2)).toHaveAttribute("aria-checked", "true");
    await expect(page.locator(".class", { hasText: "table" })).toHaveAttribute("aria-pressed", "true");
  };
  await reloaded();
  await page.keyboard.press("b");
  await at.drag([40, 40], [100, 40]);
  await reloaded();
  await at.keep(1);
  const [object] = (await at.told()).objects;
  const classes = (await (await fetch(new URL("/v1/project", studio.url))).json()) as { classes: { id: number; name: string }[] };
  expect(classes.classes.find(({ id }) => id === object?.class)?.name).toBe("table");
  // It was painted on: the corner at the upper left belongs to it.
  expect(object !== undefined && has(decode(object.mask), 60, 40)).toBe(true);
});

test("an address names a picture", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await page.goto(`${studio.url}#picture=wide.png`);
  await expect(page.locator(".status")).toContainText("wide.png");
  await page.evaluate(() => {
    location.hash = "#picture=coffee.png";
  });
  await expect(page.locator(".status")).toContainText("coffee.png");
  await at.show("chelsea.jpg");
  expect(page.url()).toBe(`${studio.url}#picture=chelsea.jpg`);
  await page.goto("about:blank");
  await page.goto(`${studio.url}#picture=nothing.png`);
  await expect(page.getByText("There is no picture nothing.png here.")).toBeVisible();
  await expect(page.locator(".status")).toContainText("chelsea.jpg");
});

test("a server that dies is noticed, and loses nothing", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  await at.click([60, 350]);
  await at.answered();
  await studio.kill();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert").first()).toContainText("does not answer");
  await expect(at.button("Keep")).toBeVisible();
  await expect(page.locator(".status")).toContainText("Not saved yet: 1 change");
  await studio.restart();
  // It is kept without another word.
  await expect(at.objects).toHaveCount(2, { timeout: 20_000 });
  await expect(page.getByText("The server does not answer. What was saved")).toHaveCount(0);
  await expect(at.button("Keep")).toHaveCount(0);
  expect((await at.told()).objects).toHaveLength(2);
});

test("what is drawn and asked while the server is away is saved and answered when it is back", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await studio.kill();
  await page.keyboard.press("b");
  await at.drag([100, 60], [200, 60]);
  await at.drag([100, 300], [200, 300]);
  await expect(page.locator(".status")).toContainText("Not saved yet: 2 changes");
  // Another picture does not take its place.
  await page.locator(".picture", { hasText: "chelsea.jpg" }).click();
  await expect(page.getByText("this picture stays open until it is saved")).toBeVisible();
  await studio.restart();
  await expect(page.locator(".status")).toContainText("Saved", { timeout: 20_000 });
  const { objects } = await at.told();
  expect(objects).toHaveLength(1);
  expect(areaOf(objects[0])).toBeGreaterThan(2 * 100 * 20);

  // A click that was made meanwhile, to a server that does not know the picture any more.
  await page.keyboard.press("v");
  await page.keyboard.press("Escape");
  await page.keyboard.press("s");
  await studio.kill();
  await at.click([290, 150]);
  await expect(page.getByText("The server does not answer. What was saved")).toBeVisible();
  await studio.restart();
  await at.answered();
  await at.keep(2);
});

test("a picture that cannot be read is passed by keys, and nothing is drawn in its place", async ({ page, studio }) => {
  await writeFile(join(studio.folder, "cups.png"), "no picture");
  await fetch(new URL("/v1/project/scan", studio.url), { method: "POST" });
  const at = new StudioPage(page, studio);
  await at.open("coffee.png");
  await at.canvas.focus();
  await page.keyboard.press(".");
  await expect(page.getByRole("alert").first()).toContainText("cups.png");
  await expect(page.locator(".picture[aria-current]")).toContainText("cannot be read");
  await page.keyboard.press(".");
  await expect(page.locator(".status")).toContainText("wide.png");
  await page.keyboard.press(",");
  await page.keyboard.press(",");
  await expect(page.locator(".status")).toContainText("coffee.png");
});

test("two windows see each other's masks, and neither overwrites the other's", async ({ page, context, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  const other = new StudioPage(await context.newPage(), studio);
  await other.open();
  await at.page.bringToFront();
  await at.segment([290, 150]);
  await other.page.bringToFront();
  await expect(other.objects).toHaveCount(1);
  await other.segment([60, 350]);
  await at.page.bringToFront();
  await expect(at.objects).toHaveCount(2);
});

test("a slow server shows what it waits for, and the last question counts", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.route("**/v1/predict", async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 700));
    await route.continue().catch(() => undefined);
  });
  await at.click([290, 150]);
  await expect(page.getByText("The mask is being made.")).toBeVisible();
  await at.click([420, 200]);
  // It is kept as soon as it is there.
  await at.keep(1);
  await expect(at.button("Keep")).toHaveCount(0);
});

test("a picture that vanishes keeps its masks and says so", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  await rename(join(studio.folder, "coffee.png"), join(studio.folder, "..", "coffee.png"));
  await page.locator(".picture", { hasText: "chelsea" }).click();
  await expect(page.locator(".status")).toContainText("chelsea");
  await page.reload();
  await page.locator(".picture", { hasText: "coffee" }).click();
  // What was drawn is seen without it, and can be changed by hand.
  await expect(page.getByRole("alert")).toContainText("The file coffee.png is gone. What is drawn on it is kept (1 object)");
  await expect(at.objects).toHaveCount(1);
  await expect(page.locator(".picture", { hasText: "coffee" })).toContainText("1 object · the file is gone");
  await page.keyboard.press("b");
  await at.drag([40, 40], [100, 40]);
  await expect(at.objects).toHaveCount(2);
  await page.keyboard.press("Control+z");
  await expect(at.objects).toHaveCount(1);
  await page.keyboard.press("s");
  await at.click([290, 150]);
  await expect(page.getByRole("alert").last()).toContainText("without it the model sees nothing");
  await rename(join(studio.folder, "..", "coffee.png"), join(studio.folder, "coffee.png"));
  await at.show("coffee.png");
  await expect(at.objects).toHaveCount(1);
  await expect(page.locator(".picture", { hasText: "coffee" })).not.toContainText("gone");
  await expect(page.getByText("The file coffee.png is gone")).toHaveCount(0);
});

test("what goes wrong is told in the dialog that is open", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.button("Import").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/^Or a file or folder/).fill("nothing.json");
  await dialog.getByRole("button", { name: "Import" }).click();
  await expect(dialog.getByRole("alert")).toContainText("nothing.json");
  await expect(page.getByRole("alert")).toHaveCount(1);
  await studio.kill();
  await expect(dialog.getByText("The server does not answer. What was saved")).toBeVisible();
  await studio.restart();
  await expect(dialog.getByText("The server does not answer. What was saved")).toHaveCount(0, { timeout: 20_000 });
});
