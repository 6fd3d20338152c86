import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Page } from "@playwright/test";

import { StudioPage } from "./page";
import { expect, test } from "./server";

/** Flat shapes, so that the pictures that are compared are small and the same everywhere. */
async function drawn(page: Page): Promise<Buffer> {
  const bytes = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(400, 300);
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("no canvas");
    context.fillStyle = "#e8e4da";
    context.fillRect(0, 0, 400, 300);
    const discs = [
      [120, 150, 80, "#4a6fa5"],
      [120, 150, 40, "#c0504d"],
      [300, 90, 45, "#6b8e23"],
      [300, 220, 50, "#333"],
    ] as const;
    for (const [x, y, radius, colour] of discs) {
      context.beginPath();
      context.arc(x, y, radius, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.fill();
    }
    return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
  });
  return Buffer.from(bytes);
}

test.use({ pictures: [], viewport: { width: 1000, height: 640 } });

test("the page looks as it did", async ({ page, studio }) => {
  await page.goto(studio.url);
  await writeFile(join(studio.folder, "discs.png"), await drawn(page));
  const scanned = await page.request.post(new URL("/v1/project/scan", studio.url).href);
  expect(scanned.ok()).toBe(true);
  const at = new StudioPage(page, studio);
  await at.open("discs.png");
  await page.getByLabel("Name of a new class").fill("disc");
  await page.keyboard.press("Enter");
  await expect(page.locator(".class", { hasText: "disc" })).toBeVisible();
  await at.canvas.focus();
  await at.segment([300, 90], [400, 300]);
  await at.segment([300, 220], [400, 300]);
  await at.click([120, 150], {}, [400, 300]);
  await at.answered();
  await page.keyboard.press("2");
  await page.mouse.move(5, 5);
  const look = { maxDiffPixelRatio: 0.02 };
  await expect(at.canvas).toHaveScreenshot("canvas.png", look);
  await expect(page.locator(".candidates")).toHaveScreenshot("candidates.png", { maxDiffPixelRatio: 0.05 });
  await page.emulateMedia({ colorScheme: "dark" });
  await expect(at.canvas).toHaveScreenshot("canvas-dark.png", look);
});
