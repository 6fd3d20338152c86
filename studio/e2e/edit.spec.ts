import { StudioPage, areaOf } from "./page";
import { expect, test } from "./server";

test("brush and eraser change a mask, every stroke can be undone", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  const areas = async (): Promise<number[]> => (await at.told()).objects.map(areaOf);
  await page.keyboard.press("b");
  await at.drag([100, 300], [200, 300]);
  await expect(at.objects).toHaveCount(1);
  await expect(page.locator(".status")).toContainText("Saved");
  const [first] = await areas();
  await at.drag([100, 340], [200, 340]);
  await expect.poll(areas).not.toEqual([first]);
  await page.keyboard.press("e");
  await at.drag([150, 280], [150, 360]);
  await expect.poll(async () => (await at.told()).revision).toBe(3);
  await expect(at.objects).toHaveCount(1);
  await page.keyboard.press("Control+z");
  await page.waitForTimeout(100);
  await page.keyboard.press("Control+z");
  await expect.poll(areas).toEqual([first]);
  await page.keyboard.press("Control+y");
  await expect.poll(areas).not.toEqual([first]);
});

test("corners of a polygon are drawn, moved, added and removed", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  const size = async (): Promise<number> => areaOf((await at.told()).objects[0]);
  await page.keyboard.press("p");
  for (const corner of [[100, 100], [200, 100], [200, 200], [100, 200]] as const) await at.click(corner);
  await at.click([100, 100]);
  await expect(at.objects).toHaveCount(1);
  await expect.poll(size).toBeGreaterThan(9800);
  const square = await size();
  await at.drag([200, 200], [260, 260]);
  await expect.poll(size).toBeGreaterThan(square + 4000);
  const kite = await size();
  await at.click([260, 260], { button: "right" });
  await expect.poll(size).toBeLessThan(kite - 4000);
  await page.getByLabel("Fineness").fill("4");

  // Corners of a polygon that is not closed are undone first.
  await at.canvas.focus();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Escape");
  const { revision } = await at.told();
  for (const corner of [[400, 100], [500, 100], [500, 200]] as const) await at.click(corner);
  for (let i = 0; i < 3; i++) await page.keyboard.press("Control+z");
  await page.keyboard.press("Enter");
  expect((await at.told()).revision).toBe(revision);
  await expect(at.objects).toHaveCount(1);
});

test("what the brush changes is said, and let go of by Enter", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  const hint = page.locator("#hint");
  await expect(hint).toContainText("Click on something");
  await page.keyboard.press("b");
  await expect(hint).toContainText("A stroke begins a new object");
  await at.drag([100, 300], [200, 300]);
  await expect(at.objects).toHaveCount(1);
  await expect(hint).toContainText("The brush changes the selected object");
  await page.keyboard.press("Enter");
  await expect(hint).toContainText("A stroke begins a new object");
  await at.drag([100, 100], [200, 100]);
  await expect(at.objects).toHaveCount(2);
  await page.keyboard.press("p");
  await expect(hint).toContainText("Drag a corner");
  await page.keyboard.press("Enter");
  await expect(hint).toContainText("corners of a new object");
});

test("a click beside a corner takes it, and one far away begins nothing", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.keyboard.press("p");
  for (const corner of [[100, 100], [200, 100], [200, 200], [100, 200]] as const) await at.click(corner);
  // Nine pixels of the screen beside the first corner.
  await at.click([106, 104]);
  await expect(at.objects).toHaveCount(1);
  await expect(page.locator("#hint")).toContainText("Drag a corner");
  const square = areaOf((await at.told()).objects[0]);
  await at.drag([206, 206], [260, 260]);
  await expect.poll(async () => areaOf((await at.told()).objects[0])).toBeGreaterThan(square + 4000);
  await at.click([400, 300]);
  await expect(page.getByText("These corners are of the selected object.")).toBeVisible();
  await expect(page.locator(".object.selected")).toHaveCount(1);
  await page.keyboard.press("Enter");
  for (const corner of [[400, 300], [450, 300], [450, 350]] as const) await at.click(corner);
  await page.keyboard.press("Enter");
  await expect(at.objects).toHaveCount(2);
});

test("an assessment is of the mask that was looked at", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await at.segment([290, 150]);
  await at.button("Assess the masks").click();
  const quality = at.objects.getByText("quality");
  await expect(quality).toBeVisible();
  await page.keyboard.press("v");
  await at.click([290, 150]);
  await page.keyboard.press("b");
  await at.drag([40, 40], [100, 40]);
  await expect(quality).toHaveCount(0);
  await page.keyboard.press("Control+z");
  await expect(quality).toBeVisible();
});

test("objects are united, subtracted, ordered, hidden and deleted", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  await page.keyboard.press("b");
  await at.drag([100, 100], [160, 100]);
  await expect(at.objects).toHaveCount(1);
  await page.keyboard.press("Escape");
  await at.drag([150, 100], [220, 100]);
  await expect(at.objects).toHaveCount(2);
  const ids = async (): Promise<number[]> => (await at.told()).objects.map(({ id }) => id);
  const [low, high] = await ids();
  await at.button(/^Lower/).click();
  await expect.poll(ids).toEqual([high, low]);
  await at.button(/^Raise/).click();
  await expect.poll(ids).toEqual([low, high]);
  await page.keyboard.press("Control+a");
  await at.button("Subtract").click();
  await expect.poll(async () => (await at.told()).revision).toBe(5);
  await page.keyboard.press("Control+z");
  await expect.poll(async () => (await at.told()).revision).toBe(6);
  await page.keyboard.press("Control+a");
  await at.button("Union").click();
  await expect(at.objects).toHaveCount(1);
  await at.button("Hide").click();
  await expect(at.button("Show", ).first()).toBeVisible();
  await page.keyboard.press("Delete");
  await expect(at.objects).toHaveCount(0);
  await page.keyboard.press("Control+z");
  await expect(at.objects).toHaveCount(1);
});

test("classes have colours and digits, objects have attributes", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open();
  for (const name of ["cup", "table"]) {
    await page.getByLabel("Name of a new class").fill(name);
    await page.keyboard.press("Enter");
    await expect(page.locator(".class", { hasText: name })).toHaveAttribute("aria-pressed", "true");
  }
  await at.canvas.focus();
  await page.keyboard.press("1");
  await at.segment([290, 150]);
  await expect(at.objects.first()).toContainText("cup");
  await page.keyboard.press("v");
  await at.click([290, 150]);
  await page.keyboard.press("2");
  await expect(at.objects.first()).toContainText("table");

  await page.getByText("Attributes").click();
  await page.getByLabel("Name of the attribute").fill("occluded");
  await page.getByLabel("Value of the attribute").fill("no");
  await page.keyboard.press("Enter");
  await expect.poll(async () => (await at.told()).objects[0]?.attributes).toEqual({ occluded: "no" });
  await at.button("Remove occluded").click();
  await expect.poll(async () => (await at.told()).objects[0]?.attributes).toEqual({});

  await at.button("Change cup").click();
  await page.getByLabel("Name", { exact: true }).fill("mug");
  await page.keyboard.press("Enter");
  await expect(page.locator(".class", { hasText: "mug" })).toBeVisible();
  await at.button("Change table").click();
  await at.button("Remove table").click();
  // It is in use.
  await expect(page.getByRole("alert")).toBeVisible();
  await expect(page.locator(".class", { hasText: "table" })).toBeVisible();
});

test("pictures are searched, checked, and masks copied to the next", async ({ page, studio }) => {
  const at = new StudioPage(page, studio);
  await at.open("chelsea.jpg");
  await page.keyboard.press(".");
  await expect(page.locator(".status")).toContainText("coffee.png");
  await page.keyboard.press(",");
  await expect(page.locator(".status")).toContainText("chelsea.jpg");
  await page.keyboard.press("c");
  await expect(page.locator(".status")).toContainText("coffee.png");
  await expect(page.locator(".done")).toContainText("1 / 3");
  await page.keyboard.press(",");
  await expect(page.locator(".status")).toContainText("chelsea.jpg");
  await page.keyboard.press("Control+z");
  await expect(page.getByText("The picture is not checked any more.")).toBeVisible();
  await page.keyboard.press("Control+Shift+z");
  await expect(page.getByText("The picture is checked again.")).toBeVisible();
  await page.getByLabel("Which pictures").selectOption("Checked");
  await expect(page.locator(".picture")).toHaveCount(1);
  await page.getByLabel("Which pictures").selectOption("All");
  await page.getByLabel("Search pictures").fill("coffee");
  await expect(page.locator(".picture")).toHaveCount(1);
  await page.getByLabel("Search pictures").fill("");

  await at.canvas.focus();
  await at.segment([290, 150]);
  await page.keyboard.press("Control+c");
  await page.keyboard.press("Control+v");
  await expect(at.objects).toHaveCount(2);
  await page.keyboard.press("n");
  // The next one has another size: one clear message, and nothing is copied.
  await expect(page.getByRole("alert")).toContainText("do not fit");
});
