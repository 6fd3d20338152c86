import { StudioPage, areaOf } from "./page";
import { expect, test } from "./server";

/** As detection data sets are: boxes without outlines. */
const BOXES = {
  images: [
    { id: 1, file_name: "coffee.png", width: 600, height: 400 },
    { id: 2, file_name: "chelsea.jpg", width: 451, height: 300 },
  ],
  categories: [{ id: 1, name: "thing" }],
  annotations: [
    { id: 1, image_id: 1, category_id: 1, bbox: [160, 40, 280, 260] },
    { id: 2, image_id: 1, category_id: 1, bbox: [330, 230, 80, 100], segmentation: [] },
    { id: 3, image_id: 2, category_id: 1, bbox: [60, 20, 340, 270] },
  ],
};

test("boxes of another program become masks, all in one go", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.button("Import").click();
  const sent = { name: "boxes.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(BOXES)) };
  await page.getByLabel("A file", { exact: true }).setInputFiles(sent);
  await page.getByRole("dialog").getByRole("button", { name: "Import" }).click();
  await expect(page.locator(".told")).toHaveText("3 objects on 2 pictures");
  await at.button("Take the import back").click();
  await expect(page.locator(".told")).toHaveText("The import is taken back from 2 pictures.");
  expect((await at.told("chelsea.jpg")).objects).toEqual([]);
  await page.getByRole("dialog").getByRole("button", { name: "Import" }).click();
  await at.button("Make masks from 3 boxes").click();
  await expect(page.getByRole("dialog")).toHaveCount(0);
  await expect(page.getByRole("status").filter({ hasText: "3 masks from boxes." })).toBeVisible();

  const sizes = { "coffee.png": [280 * 260, 80 * 100], "chelsea.jpg": [340 * 270] };
  for (const [picture, boxes] of Object.entries(sizes)) {
    const { objects } = await at.told(picture);
    expect(objects).toHaveLength(boxes.length);
    for (const [i, object] of objects.entries()) {
      expect(object.predicted_iou).toBeGreaterThan(0.5);
      expect(object.class).not.toBeNull();
      expect(areaOf(object)).toBeGreaterThan(0.2 * (boxes[i] ?? 0));
      expect(areaOf(object)).toBeLessThan(0.98 * (boxes[i] ?? 0));
    }
  }

  // Each picture is one step; the boxes are there again, and one of them alone becomes a mask.
  await at.canvas.focus();
  const masks = (await at.told()).objects.map(areaOf);
  await page.keyboard.press("Control+z");
  await expect(at.objects.filter({ hasText: "box" })).toHaveCount(2);
  expect((await at.told()).objects.map(areaOf)).toEqual(sizes["coffee.png"]);
  await at.objects.first().getByRole("button", { name: "thing" }).click();
  await at.button("Masks from boxes").click();
  await expect(at.objects.filter({ hasText: "box" })).toHaveCount(1);
  await page.keyboard.press("v");
  await page.keyboard.press("Escape");
  await at.canvas.focus();
  await page.keyboard.press("m");
  await expect(at.objects.filter({ hasText: "box" })).toHaveCount(0);
  expect((await at.told()).objects.map(areaOf)).toEqual(masks);
  await expect(at.button("Masks from boxes")).toBeDisabled();
});
