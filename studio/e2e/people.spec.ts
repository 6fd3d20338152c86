import { StudioPage } from "./page";
import { expect, test } from "./server";

const ANNA = "a-token-of-anna-0123456789";
const BEN = "a-token-of-ben-0123456789";

test.use({ tokens: { anna: ANNA, ben: BEN } });

test("everybody has a token, and it is recorded who does what", async ({ page, context, studio }) => {
  const at = new StudioPage(page, studio);
  await page.goto(studio.url);
  const token = page.getByLabel("Your token");
  await token.fill("no token of anybody at all");
  await page.getByRole("button", { name: "Go on" }).click();
  await token.fill(ANNA);
  await page.getByRole("button", { name: "Go on" }).click();
  await at.show("coffee.png");
  await at.segment([290, 150]);

  const other = new StudioPage(await context.newPage(), studio);
  await other.page.goto(`${studio.url}#token=${BEN}`);
  await other.show("coffee.png");
  // The token does not stay in the address.
  expect(other.page.url()).toBe(`${studio.url}#picture=coffee.png`);
  await other.segment([60, 350]);
  await expect(other.objects).toHaveCount(2);
  await expect(other.page.locator(".object-name").nth(0)).toHaveAttribute("title", "Drawn by ben");
  await expect(other.page.locator(".object-name").nth(1)).toHaveAttribute("title", "Drawn by anna");
  await at.page.bringToFront();
  await expect(at.objects).toHaveCount(2);
  await expect(at.page.locator(".status")).toContainText("Saved by anna");
  await expect(at.objects.nth(0)).toContainText("ben");

  // Nobody takes back what is another's without being asked.
  await at.canvas.focus();
  await at.page.keyboard.press("Control+z");
  await expect(at.page.getByText("The last change here is ben's. Once more takes it back.")).toBeVisible();
  await expect(at.objects).toHaveCount(2);
  await at.page.keyboard.press("Control+z");
  await expect(at.objects).toHaveCount(1);
  await at.page.keyboard.press("Control+z");
  await expect(at.objects).toHaveCount(0);
});
