import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { expectAccessible } from "./axe";
import { StudioPage } from "./page";
import { expect, test } from "./server";

/** Masks of squares on the coffee, 600 by 400 pixels. */
function squares(count: number): unknown[] {
  const [height, width, side] = [400, 600, 40];
  return Array.from({ length: count }, (_, i) => {
    const counts = [i * 60 * height + 100];
    for (let x = 0; x < side - 1; x++) counts.push(side, height - side);
    counts.push(side, height * width - (i * 60 + side - 1) * height - 100 - side);
    return { add: { mask: { size: [height, width], counts } } };
  });
}

test("the model is fine-tuned on the masks, and answers then", async ({ page, studio }) => {
  test.setTimeout(180_000);
  const at = new StudioPage(page, studio);
  await at.open();
  const dialog = page.getByRole("dialog");
  // As somebody types: Firefox does not let the text of a number be replaced at once.
  const steps = async (count: number): Promise<void> => {
    await dialog.getByLabel("Steps").press("ControlOrMeta+a");
    await dialog.getByLabel("Steps").pressSequentially(`${count}`);
  };
  await at.button("Fine-tune").click();
  await dialog.getByRole("button", { name: "Start" }).click();
  await expect(dialog.locator("output.told")).toContainText("there are 0 masks on pictures; a fine-tune needs 8");
  await dialog.getByRole("button", { name: "Close" }).last().click();

  const pictures = new URL("/v1/project/pictures", studio.url).href;
  const list = (await (await fetch(pictures)).json()) as { pictures: { id: number; path: string }[] };
  const id = list.pictures.find(({ path }) => path === "coffee.png")?.id ?? -1;
  const body = JSON.stringify({ edits: squares(8) });
  const headers = { "content-type": "application/json" };
  const drawn = await fetch(`${pictures}/${id}/edits`, { method: "POST", headers, body });
  expect(drawn.ok).toBe(true);
  await expect(at.objects).toHaveCount(8);

  await at.button("Fine-tune").click();
  await expect(dialog).toContainText("8 masks on 1 picture;");
  await dialog.getByLabel("Name of the model").fill("squares");
  await steps(200);
  await dialog.getByRole("button", { name: "Start" }).click();
  const status = dialog.locator(".course [role=status]");
  await expect(status).toContainText("Learning: squares, step");
  await expect(dialog.getByRole("img", { name: /^Loss from/ })).toBeVisible({ timeout: 90_000 });
  await expectAccessible(page, "dialog");
  // It goes on behind the page, which is used meanwhile.
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await at.canvas.focus();
  await at.click([290, 150]);
  await at.answered();
  await page.keyboard.press("Escape");
  await at.button("Fine-tune").click();
  await dialog.getByRole("button", { name: "Stop" }).click();
  await expect(status).toContainText("Stopped: squares", { timeout: 60_000 });
  await expect(dialog.getByLabel("Steps")).toHaveValue("200");

  await dialog.getByLabel("Name of the model").fill("few");
  await steps(2);
  await dialog.getByRole("button", { name: "Go on" }).click();
  await expect(status).toContainText("Done: few, step 2 of 2", { timeout: 120_000 });
  const model = join(studio.folder, "..", "few", "runs", "recipe", "model.safetensors");
  expect((await stat(model)).isFile()).toBe(true);
  await expect(dialog).toContainText(`--checkpoint ${model}`);
  await expectAccessible(page, "dialog");
  await dialog.getByRole("button", { name: "Use it here" }).click();
  await expect(dialog).toContainText("It answers now.");
  // The way back is there in every window.
  const answering = dialog.getByLabel("Model that answers");
  await expect(answering).toHaveValue("few");
  await answering.selectOption("lite");
  await expect(dialog.getByRole("button", { name: "Use it here" })).toBeVisible();
  await answering.selectOption("few");
  await expect(dialog).toContainText("It answers now.");
  await dialog.getByRole("button", { name: "Close" }).last().click();
  await at.show("coffee.png");
  await at.canvas.focus();
  await at.click([290, 150]);
  await at.answered();
  expect((await readdir(join(studio.folder, ".."))).sort()).toEqual(["few", "pictures", "squares", "state"]);
});
