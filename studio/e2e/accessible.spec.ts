import { expectAccessible } from "./axe";
import { StudioPage } from "./page";
import { expect, test } from "./server";

for (const theme of ["light", "dark"] as const) {
  test(`the page keeps the rules of accessibility, ${theme}`, async ({ page, studio }) => {
    await page.emulateMedia({ colorScheme: theme });
    const at = new StudioPage(page, studio);
    await at.open();
    await page.getByLabel("Name of a new class").fill("cup");
    await page.keyboard.press("Enter");
    await at.canvas.focus();
    await at.segment([290, 150]);
    await at.click([60, 350]);
    await at.answered();
    await expectAccessible(page);
    for (const name of ["Help", "Import", "Export"]) {
      await at.button(name).click();
      await expect(page.getByRole("dialog")).toBeVisible();
      await expectAccessible(page, "dialog");
      await page.getByRole("button", { name: "Close" }).last().click();
      await expect(page.getByRole("dialog")).toHaveCount(0);
    }
  });
}

test("the help begins at its beginning, and its keys stand beside each other", async ({ page, studio }) => {
  await new StudioPage(page, studio).open();
  await page.keyboard.press("?");
  const dialog = page.getByRole("dialog");
  await expect(dialog).toBeVisible();
  expect(await dialog.evaluate((element) => element.scrollTop)).toBe(0);
  const overlapping = await dialog.evaluate((element) => {
    const boxes = [...element.querySelectorAll(".help kbd, .help dd")].map((one) => one.getBoundingClientRect());
    return boxes.filter((a, i) =>
      boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom),
    ).length;
  });
  expect(overlapping).toBe(0);
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`every theme is reached, and the first is seen at once on a ${colorScheme} system`, async ({ page, studio }) => {
    await page.emulateMedia({ colorScheme });
    const at = new StudioPage(page, studio);
    await at.open();
    const ground = (): Promise<string> => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const before = await ground();
    await at.button("Theme: system").click();
    await expect.poll(ground).not.toBe(before);
    await at.button(`Theme: ${colorScheme === "light" ? "dark" : "light"}`).click();
    await expect.poll(ground).toBe(before);
    await at.button(`Theme: ${colorScheme}`).click();
    await expect(at.button("Theme: system")).toBeVisible();
  });
}

test("nothing is asked of another host", async ({ page, studio }) => {
  const hosts = new Set<string>();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  hosts.delete("");
  expect([...hosts]).toEqual([new URL(studio.url).host]);
});
