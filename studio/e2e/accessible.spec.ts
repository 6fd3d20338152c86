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

test("nothing is asked of another host", async ({ page, studio }) => {
  const hosts = new Set<string>();
  page.on("request", (request) => hosts.add(new URL(request.url()).host));
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  hosts.delete("");
  expect([...hosts]).toEqual([new URL(studio.url).host]);
});
