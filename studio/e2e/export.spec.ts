import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { StudioPage, areaOf } from "./page";
import { expect, test } from "./server";

const run = promisify(execFile);

/** Prints the area of every mask of a file of COCO, as its own library reads it. */
const AREAS = `
import sys
from pycocotools.coco import COCO
coco = COCO(sys.argv[1])
annotations = coco.loadAnns(coco.getAnnIds())
print([(coco.cats[a["category_id"]]["name"], int(coco.annToMask(a).sum())) for a in annotations])
`;

test("from a folder of pictures to an export that others read, and back", async ({ page, studio }) => {
  const python = process.env["PYTHON"] ?? "python3";
  const at = new StudioPage(page, studio);
  await at.open();
  await page.getByLabel("Name of a new class").fill("cup");
  await page.keyboard.press("Enter");
  await expect(page.locator(".class", { hasText: "cup" })).toBeVisible();
  await at.canvas.focus();
  await at.segment([290, 150]);
  await at.segment([60, 350]);
  await page.keyboard.press("b");
  await at.drag([100, 60], [200, 60]);
  await expect(at.objects).toHaveCount(3);
  await page.keyboard.press("c");

  const formats = ["coco", "coco-polygons", "yolo", "labelme", "index-png", "label-maps", "cutouts"];
  for (const format of formats) {
    await at.button("Export").click();
    await page.getByLabel("Format").selectOption(format);
    await page.getByLabel("New folder").fill(`out-${format}`);
    await page.getByRole("dialog").getByRole("button", { name: "Export" }).click();
    await expect(page.locator(".told")).toContainText("3 objects of 1 picture in");
    await page.getByRole("button", { name: "Close" }).last().click();
    expect((await stat(join(studio.folder, "..", `out-${format}`))).isDirectory()).toBe(true);
  }
  // The name of one that is there is not offered again.
  await at.button("Export").click();
  await page.getByLabel("Format").selectOption("coco");
  const offered = await page.getByLabel("New folder").inputValue();
  for (const name of [offered, `${offered}-2`]) {
    await expect(page.getByLabel("New folder")).toHaveValue(name);
    await page.getByRole("dialog").getByRole("button", { name: "Export" }).click();
    await expect(page.locator(".told")).toContainText(name);
  }
  await page.getByRole("button", { name: "Close" }).last().click();

  const coco = join(studio.folder, "..", "out-coco");
  const [file] = (await readdir(coco)).filter((name) => name.endsWith(".json"));
  const told = await at.told();
  const { stdout } = await run(python, ["-c", AREAS, join(coco, file ?? "")]);
  const expected = told.objects.map((object) => `('cup', ${areaOf(object)})`).join(", ");
  expect(stdout).toContain(`[${expected}]`);

  // What is there already is refused, and nothing of it is touched.
  await at.button("Export").click();
  await page.getByLabel("New folder").fill("out-coco");
  await page.getByRole("dialog").getByRole("button", { name: "Export" }).click();
  await expect(page.getByRole("dialog").getByRole("alert")).toContainText("is there already");
  await expect(page.getByLabel("New folder")).toHaveValue("out-coco-2");
  await page.getByRole("button", { name: "Close" }).last().click();

  await at.show("coffee.png");
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await expect(at.objects).toHaveCount(0);
  const annotations = await readFile(join(coco, file ?? ""));
  await at.button("Import").click();
  const sent = { name: "annotations.json", mimeType: "application/json", buffer: annotations };
  await page.getByLabel("A file", { exact: true }).setInputFiles(sent);
  await page.getByRole("dialog").getByRole("button", { name: "Import" }).click();
  await expect(page.locator(".told")).toContainText("3 objects on 1 picture");
  await page.getByRole("button", { name: "Close" }).last().click();
  await expect(at.objects).toHaveCount(3);
  expect((await at.told()).objects.map(areaOf)).toEqual(told.objects.map(areaOf));
});
