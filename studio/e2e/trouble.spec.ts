import { rename } from "node:fs/promises";
import { join } from "node:path";

import { StudioPage } from "./page";
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
  await studio.restart();
  await expect(page.getByText("The server does not answer. What was saved")).toHaveCount(0, { timeout: 20_000 });
  await at.keep(2);
  expect((await at.told()).objects).toHaveLength(2);
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
  await expect(page.getByRole("alert")).toContainText("coffee.png");
  await rename(join(studio.folder, "..", "coffee.png"), join(studio.folder, "coffee.png"));
  await at.show("coffee.png");
  await expect(at.objects).toHaveCount(1);
});
