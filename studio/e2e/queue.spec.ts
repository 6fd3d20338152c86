/** The queue shows what is worth a second look. */

import { StudioPage } from "./page";
import { expect, test } from "./server";

test.use({ pictures: ["docs/coffee.png", "docs/gallery/chelsea.jpg"] });

test("masks that outline nothing are found", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  await at.show("chelsea.jpg");
  await page.keyboard.press("b");
  await at.drag([80, 40], [380, 260]);
  await expect(at.objects).toHaveCount(1);
  const pictures = page.locator(".picture");
  await page.getByLabel("Which pictures").selectOption("suspect");
  await expect(pictures).toHaveCount(0);
  await at.button("Assess all masks").click();
  await expect(pictures).toHaveCount(1);
  await expect(pictures).toContainText("chelsea.jpg");
  // Another mask was not assessed yet.
  await page.keyboard.press("Control+z");
  await expect(pictures).toHaveCount(0);
});
