/** The page as somebody uses it. */

import { expect, type Locator, type Page } from "@playwright/test";

import { area } from "../src/core/mask";
import { decode } from "../src/core/rle";
import type { Studio } from "./server";

export interface Told {
  readonly revision: number;
  readonly checked: boolean;
  readonly objects: readonly {
    readonly id: number;
    readonly position: number;
    readonly author: string;
    readonly class: number | null;
    readonly predicted_iou: number | null;
    readonly prompt: unknown;
    readonly attributes: Record<string, string>;
    readonly mask: { readonly size: [number, number]; readonly counts: string };
  }[];
}

type ToldObject = Told["objects"][number];

/** Pixels of an object's mask. */
export function areaOf(object: ToldObject | undefined): number {
  if (object === undefined) throw new Error("there is no such object");
  return area(decode(object.mask));
}

export class StudioPage {
  readonly canvas: Locator;
  readonly objects: Locator;
  readonly candidates: Locator;

  constructor(
    readonly page: Page,
    private readonly studio: Studio,
  ) {
    this.canvas = page.locator("canvas.canvas");
    this.objects = page.locator(".object");
    this.candidates = page.getByRole("radio");
  }

  /** Opens the page, and waits until the model has read the first picture. */
  async open(picture = "coffee.png"): Promise<void> {
    await this.page.goto(this.studio.url);
    await this.show(picture);
  }

  async show(picture: string): Promise<void> {
    await this.page.locator(".picture", { hasText: picture }).click();
    await expect(this.page.locator(".status")).toContainText(picture);
    await expect(this.page.locator(".status .ready")).toBeVisible();
  }

  /** Where a pixel of a picture of this size is on the screen while all of it is shown. */
  async place(
    [x, y]: readonly [number, number],
    [width, height]: readonly [number, number] = [600, 400],
  ): Promise<[number, number]> {
    const box = await this.canvas.boundingBox();
    if (box === null) throw new Error("there is no canvas");
    const scale = Math.min(box.width / width, box.height / height);
    return [
      box.x + (box.width - width * scale) / 2 + x * scale,
      box.y + (box.height - height * scale) / 2 + y * scale,
    ];
  }

  async hover(at: readonly [number, number]): Promise<void> {
    await this.page.mouse.move(...(await this.place(at)));
  }

  async click(
    at: readonly [number, number],
    options: { button?: "left" | "right" | "middle" } = {},
    size?: readonly [number, number],
  ): Promise<void> {
    await this.page.mouse.click(...(await this.place(at, size)), options);
  }

  async drag(from: readonly [number, number], to: readonly [number, number]): Promise<void> {
    await this.page.mouse.move(...(await this.place(from)));
    await this.page.mouse.down();
    await this.page.mouse.move(...(await this.place([(from[0] + to[0]) / 2, (from[1] + to[1]) / 2])));
    await this.page.mouse.move(...(await this.place(to)), { steps: 4 });
    await this.page.mouse.up();
  }

  /** Clicks, waits for the masks and keeps the proposed one. */
  async segment(at: readonly [number, number], size?: readonly [number, number]): Promise<void> {
    const before = await this.objects.count();
    await this.click(at, {}, size);
    await this.answered();
    await this.keep(before + 1);
  }

  /** There are masks to choose from for what is being made. */
  async answered(): Promise<void> {
    await expect(this.page.getByRole("heading", { name: "Candidates" })).toBeVisible();
    await expect(this.candidates.first()).toBeVisible();
  }

  async keep(count: number): Promise<void> {
    await this.page.keyboard.press("Enter");
    await expect(this.objects).toHaveCount(count);
  }

  button(name: string | RegExp): Locator {
    return this.page.getByRole("button", { name });
  }

  /** What the server has of a picture, by its name. */
  async told(picture = "coffee.png"): Promise<Told> {
    const base = new URL("/v1/project/pictures", this.studio.url).href;
    const list = (await (await fetch(base)).json()) as { pictures: { id: number; path: string }[] };
    const id = list.pictures.find(({ path }) => path === picture)?.id ?? -1;
    const opened = await fetch(`${base}/${id}/open`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    const told = (await opened.json()) as Told & { picture: { revision: number; checked: boolean } };
    return { ...told, revision: told.picture.revision, checked: told.picture.checked };
  }
}
