/** A video: an object is masked in one frame, followed through the others, corrected and exported. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import type { Locator, Page } from "@playwright/test";

import { expectAccessible } from "./axe";
import { CUP, SIZE, cupAt, film } from "./film";
import { StudioPage } from "./page";
import { expect, test, type Studio } from "./server";

const FRAMES = 12;

test.use({ pictures: [film(FRAMES), "docs/coffee.png"] });

/** The page with the first frame open. */
async function opened(page: Page, studio: Studio): Promise<StudioPage> {
  const work = new StudioPage(page, studio);
  await page.goto(studio.url);
  await page.locator(".picture", { hasText: "coffee.mp4" }).click();
  await expect(time(page)).toContainText(`1 / ${FRAMES}`);
  await expect(page.locator(".status .ready")).toBeVisible();
  return work;
}

function time(page: Page): Locator {
  return page.locator(".timeline .time");
}

async function mask(work: StudioPage, page: Page): Promise<void> {
  await work.click(CUP, {}, SIZE);
  await expect(work.candidates.first()).toBeVisible();
  await page.keyboard.press("Enter");
  await expect(work.objects).toHaveCount(1);
}

test("an object is followed, corrected and taken back", async ({ page, studio }) => {
  const work = await opened(page, studio);
  await mask(work, page);
  const lanes = page.locator(".lane");
  await expect(lanes).toHaveCount(1);
  await page.getByRole("button", { name: "Follow", exact: true }).click();
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", `${FRAMES}`, { timeout: 40_000 });
  await expect(page.getByLabel("Following objects")).toBeHidden();
  // Who watches sees the last frame.
  await expect(time(page)).toContainText(`${FRAMES} / ${FRAMES}`);
  await expect(work.objects).toHaveCount(1);
  await expect(page.locator(".strip .keyframe")).toHaveCount(1);
  await expectAccessible(page);

  // A stroke over the mask is a correction: another keyframe.
  await page.keyboard.press(",");
  await expect(time(page)).toContainText(`${FRAMES - 1} / ${FRAMES}`);
  await work.objects.first().getByRole("button").first().click();
  await page.keyboard.press("e");
  await work.click(cupAt(10), {}, SIZE);
  await expect(page.locator(".strip .keyframe")).toHaveCount(2);
  await page.keyboard.press("Control+z");
  await expect(page.locator(".strip .keyframe")).toHaveCount(1);

  // The propagation is one action, and undoing it shows a frame that it has changed.
  await page.keyboard.press("Control+z");
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", "1");
  await expect(work.objects).toHaveCount(0);
  await page.keyboard.press("Control+y");
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", `${FRAMES}`);

  await page.reload();
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", `${FRAMES}`);
  await page.getByRole("button", { name: /in all frames/ }).click();
  await expect(lanes).toHaveCount(0);
});

test("following stops where it is told, and goes on from there", async ({ page, studio }) => {
  const work = await opened(page, studio);
  await mask(work, page);
  await page.locator("canvas.canvas").focus();
  await page.keyboard.press("t");
  await expect(page.getByLabel("Following objects")).toBeVisible();
  await expect(time(page)).not.toContainText(`1 / ${FRAMES}`, { timeout: 20_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Follow", exact: true })).toBeVisible();
  const first = Number(await page.locator(".timeline .run").getAttribute("width"));
  expect(first).toBeGreaterThan(1);
  await page.keyboard.press("t");
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", `${FRAMES}`, { timeout: 40_000 });
});

test("a lost object is masked again in its lane, frames are exported", async ({ page, studio }) => {
  const work = await opened(page, studio);
  await mask(work, page);
  await page.getByLabel("Frame", { exact: true }).fill("6");
  await expect(time(page)).toContainText(`7 / ${FRAMES}`);
  await expect(page.locator(".status .ready")).toBeVisible();
  await page.locator(".lane-name").click();
  await expect(page.locator(".timeline")).toContainText("The next mask in this frame is of object 1");
  await work.click(cupAt(6), {}, SIZE);
  await page.keyboard.press("Enter");
  await expect(work.objects).toHaveCount(1);
  await expect(page.locator(".lane")).toHaveCount(1);
  await expect(page.locator(".strip .keyframe")).toHaveCount(2);
  await page.keyboard.press("Shift+<");
  await expect(time(page)).toContainText(`1 / ${FRAMES}`);

  await work.button("Export").click();
  await page.getByLabel("Format").selectOption("coco");
  await page.getByLabel("New folder").fill("out");
  await page.getByRole("dialog").getByRole("button", { name: "Export" }).click();
  await expect(page.locator(".told")).toContainText("2 objects of 2 pictures in");
  const text = await readFile(join(studio.folder, "../out/annotations.json"), "utf8");
  const told = JSON.parse(text) as { images: { file_name: string }[]; annotations: { track_id: number }[] };
  expect(told.images.map(({ file_name }) => file_name)).toEqual(["coffee.mp4/00000.png", "coffee.mp4/00006.png"]);
  expect(told.annotations.map(({ track_id }) => track_id)).toEqual([1, 1]);
});
