import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

import type { Page } from "@playwright/test";

import { CUP, SIZE, film } from "../e2e/film";
import { StudioPage } from "../e2e/page";
import { expect, test, type Studio } from "../e2e/server";

/** Draws the pictures of docs/studio.md anew: `npx playwright test -c playwright.pictures.config.ts`. */
const FOLDER = resolve(import.meta.dirname, "../../docs/studio");
const run = promisify(execFile);

const FRAMES = 24;

test.use({
  pictures: [film(FRAMES), "docs/gallery/astronaut.jpg", "docs/gallery/chelsea.jpg", "docs/coffee.png", "docs/gallery/rocket.jpg"],
});

async function shoot(page: Page, studio: Studio, name: string): Promise<void> {
  const png = join(studio.folder, "..", `${name}.png`);
  await page.screenshot({ path: png });
  await run("ffmpeg", ["-y", "-loglevel", "error", "-i", png, "-q:v", "3", join(FOLDER, `${name}.jpg`)]);
}

test("the picture of a video", async ({ page, studio }) => {
  test.setTimeout(120_000);
  const at = new StudioPage(page, studio);
  await page.goto(studio.url);
  await page.locator(".picture", { hasText: "coffee.mp4" }).click();
  await expect(page.locator(".timeline .time")).toContainText(`1 / ${FRAMES}`);
  await expect(page.locator(".status .ready")).toBeVisible();
  await page.getByLabel("Name of a new class").fill("coffee");
  await page.keyboard.press("Enter");
  await at.canvas.focus();
  await at.segment(CUP, SIZE);
  await page.keyboard.press("t");
  await expect(page.locator(".timeline .run")).toHaveAttribute("width", "15", { timeout: 60_000 });
  await shoot(page, studio, "video");
});

test("the pictures of the documentation", async ({ page, studio }) => {
  test.setTimeout(120_000);
  const shot = (name: string): Promise<void> => shoot(page, studio, name);
  const at = new StudioPage(page, studio);
  await at.open("astronaut.jpg");
  for (const name of ["person", "cup", "shuttle"]) {
    await page.getByLabel("Name of a new class").fill(name);
    await page.keyboard.press("Enter");
    await page.locator(".class", { hasText: name }).waitFor();
  }
  const size = [512, 512] as const;
  await at.canvas.focus();
  await at.segment([410, 150], size);
  await at.show("coffee.png");
  await page.keyboard.press("Shift+Digit2");
  await at.click([100, 200]);
  await at.answered();
  await page.keyboard.press("Escape");
  await page.keyboard.press("a");
  await page.getByRole("button", { name: "Find everything", pressed: true }).waitFor({ timeout: 60_000 });
  await at.hover([350, 290]);
  await page.waitForTimeout(500);
  await shot("everything");
  await page.keyboard.press("Escape");
  await at.show("astronaut.jpg");
  await page.keyboard.press("Shift+Digit1");
  await at.click([220, 330], {}, size);
  await at.answered();
  await page.keyboard.press("1");
  await page.waitForTimeout(500);
  await shot("candidates");
});
