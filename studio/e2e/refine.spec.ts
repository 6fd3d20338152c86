import { rings } from "../src/core/contour";
import { area, has, subtract, type Mask } from "../src/core/mask";
import { decode } from "../src/core/rle";
import { StudioPage, type Told } from "./page";
import { expect, test } from "./server";

type Place = readonly [number, number];

const CUP = "docs/coffee.png";

/** A click whose largest mask is kept, and a place that is taken from it afterwards. */
const CASES: readonly (readonly [picture: string, size: Place, click: Place, minus: Place])[] = [
  [CUP, [600, 400], [290, 150], [225, 265]],
  ["docs/gallery/astronaut.jpg", [512, 512], [220, 330], [235, 110]],
  ["docs/gallery/chelsea.jpg", [451, 300], [220, 120], [130, 60]],
];

function maskOf({ objects: [object] }: Told): Mask {
  if (object === undefined) throw new Error("there is no object");
  return decode(object.mask);
}

/** What is left is a part of what there was, in few pieces, and without the place that was taken away. */
function expectPart(after: Mask, before: Mask, [x, y]: Place): void {
  expect(has(after, x, y)).toBe(false);
  expect(area(subtract(after, before))).toBeLessThan(0.05 * area(before));
  expect(area(after)).toBeGreaterThan(0.4 * area(before));
  expect(rings(after).length).toBeLessThan(40);
}

for (const [path, size, click, minus] of CASES) {
  const picture = path.split("/").pop() ?? "";

  test.describe(picture, () => {
    test.use({ pictures: [path] });

    test("an object stays what it is when a part of it is taken away", async ({ page, studio }) => {
      const at = new StudioPage(page, studio);
      await at.open(picture);
      await at.click(click, {}, size);
      await at.answered();
      await page.keyboard.press("1");
      await at.keep(1);
      const before = maskOf(await at.told(picture));
      await page.keyboard.press("v");
      await at.click(click, {}, size);
      await page.keyboard.press("r");

      // Nothing was changed yet, and nothing is kept.
      const { revision } = await at.told(picture);
      await page.keyboard.press("Enter");
      await expect(at.button("Keep")).toHaveCount(0);
      expect((await at.told(picture)).revision).toBe(revision);

      await page.keyboard.press("r");
      await at.click(minus, { button: "right" }, size);
      await at.answered();
      await at.keep(1);
      await expect.poll(async () => (await at.told(picture)).revision).toBe(revision + 1);
      const told = await at.told(picture);
      expectPart(maskOf(told), before, minus);
      // The clicks of both times are kept, for the next one.
      const { points } = told.objects[0]?.prompt as { points: readonly (readonly number[])[] };
      expect(points.map(([, , label]) => label)).toEqual([1, 0]);
    });
  });
}

test("of a mask that was drawn by hand a part is taken with a click", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.keyboard.press("b");
  await page.getByRole("slider", { name: "Brush" }).fill("70");
  await at.drag([240, 150], [350, 150]);
  await expect(at.objects).toHaveCount(1);
  const before = maskOf(await at.told());
  await at.canvas.focus();
  await page.keyboard.press("r");
  // The wall of the cup, beside the coffee.
  await at.click([240, 115], { button: "right" });
  await at.answered();
  await at.keep(1);
  await expect.poll(async () => (await at.told()).revision).toBe(2);
  expectPart(maskOf(await at.told()), before, [240, 115]);
});
