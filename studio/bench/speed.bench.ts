/** How long one waits for the page: each measure is taken inside the browser, from what is done until it is painted. */

import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { CDPSession, Page } from "@playwright/test";

import { encode } from "../src/core/rle";
import { StudioPage } from "../e2e/page";
import { Studio, expect, test } from "../e2e/server";
import { chance, quantile, table } from "./numbers";
import { fromRepository, makeMasks, makePicture } from "./pictures";
import { addProbe, course, framesOf, openProbed, type Course, type Frame } from "./probe";

type Size = [number, number];

const ORDINARY: Size = [640, 480];
const LARGE: Size = [4000, 3000];
const PLACES = 100;
const MASKS = 100;
/** How often the program starts. */
const COLD = 5;
/** Milliseconds that a picture is moved or zoomed for. */
const MOVING = 4000;

const rows: (readonly string[])[] = [];

function ms(number: number): string {
  return number.toFixed(number < 10 ? 1 : 0);
}

/** A row about times: `parts` says where they go. */
function report(what: string, times: readonly number[], target: string, parts: string): void {
  const { length } = times;
  rows.push([what, String(length), ms(quantile(times, 0.5)), ms(quantile(times, 0.95)), target, parts]);
}

function median<T>(all: readonly T[], of: (one: T) => number): string {
  return ms(quantile(all.map(of), 0.5));
}

function partsOf(courses: readonly Course[]): string {
  return [
    `until asked ${median(courses, ({ asked }) => asked)}`,
    `server ${median(courses, ({ asked, begun }) => begun - asked)}`,
    `read ${median(courses, ({ begun, read }) => read - begun)}`,
    `page ${median(courses, ({ read, painted }) => painted - read)}`,
  ].join(", ");
}

/** Runs with a folder of its own. */
async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "samara-studio-")));
  try {
    await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The studio on pictures of these sizes, by their names. */
async function withPictures(pictures: Readonly<Record<string, Size>>, work: (studio: Studio) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const made: string[] = [];
    for (const [name, size] of Object.entries(pictures)) {
      made.push(fromRepository(await makePicture(join(folder, "made"), name, size, made.length)));
    }
    const studio = await Studio.start(folder, made);
    try {
      await work(studio);
    } finally {
      await studio.stop();
    }
  });
}

/** Places all over a picture, by a margin inside of it. */
function placesOf([width, height]: Size, count: number, seed: number): (readonly [number, number])[] {
  const random = chance(seed);
  return Array.from({ length: count }, () => [(0.05 + 0.9 * random()) * width, (0.05 + 0.9 * random()) * height] as const);
}

/** Pixels of the picture that the pointer may be beside a place. */
async function toleranceOf(at: StudioPage, size: Size): Promise<number> {
  const [[left], [right]] = [await at.place([0, 0], size), await at.place([size[0], 0], size)];
  return 1.5 + (1.5 * size[0]) / (right - left);
}

test.describe.configure({ mode: "default" });

test.afterAll(() => {
  const head = ["what (ms, where nothing is said)", "n", "p50", "p95", "target", "medians of the parts"];
  console.log(`\n${table(head, rows)}\n`);
});

for (const [name, size] of [["640x480", ORDINARY], ["12 megapixels", LARGE]] as const) {
  test(`the first mask, ${name}`, async ({ page }) => {
    const courses: { listens: number; seen: number; answered: number; mask: number }[] = [];
    await addProbe(page);
    const now = (): number => performance.timeOrigin + performance.now();
    for (let turn = 0; turn < COLD; turn++) {
      await inFolder(async (folder) => {
        const path = await makePicture(join(folder, "made"), "one.jpg", size, turn);
        const begun = now();
        // At a port of its own: for the browser it is another place, of which it knows nothing.
        const studio = await Studio.start(folder, [fromRepository(path)]);
        const listens = now() - begun;
        try {
          await page.goto(studio.url, { waitUntil: "commit" });
          const at = new StudioPage(page, studio);
          // A click as soon as there is something to be seen.
          await page.waitForFunction(() => window.probe.frames.some((frame) => frame.fresh > 0));
          await page.mouse.click(...(await at.place([size[0] / 2, size[1] / 2], size)));
          await at.answered();
          await page.waitForFunction(() => (window.probe.predictions.at(-1)?.painted ?? 0) > 0);
          const times = await page.evaluate(() => {
            const { timeOrigin } = performance;
            const last = window.probe.predictions.at(-1);
            const seen = window.probe.frames.find((frame) => frame.fresh > 0)?.ended ?? 0;
            return [seen, last?.begun ?? 0, last?.painted ?? 0].map((time) => timeOrigin + time);
          });
          const [seen = 0, answered = 0, mask = 0] = times.map((time) => time - begun);
          courses.push({ listens, seen, answered, mask });
          await page.goto("about:blank");
        } finally {
          await studio.stop();
        }
      });
    }
    const parts = [
      `listens at ${median(courses, ({ listens }) => listens)}`,
      `picture seen at ${median(courses, ({ seen }) => seen)}`,
      `masks answered at ${median(courses, ({ answered }) => answered)}`,
    ].join(", ");
    report(`start to first mask, one click, ${name}`, courses.map(({ mask }) => mask), "2000", parts);
  });

  test(`the preview and clicks, ${name}`, async ({ page }) => {
    await withPictures({ "one.jpg": size }, async (studio) => {
      const at = new StudioPage(page, studio);
      await openProbed(at, "one.jpg");
      const tolerance = await toleranceOf(at, size);
      const watched = async (kind: string, seed: number, act: (at: readonly [number, number]) => Promise<void>) => {
        const courses: Course[] = [];
        for (const place of placesOf(size, PLACES, seed)) {
          const on = await at.place(place, size);
          await act(on);
          const found = await course(page, kind, place, tolerance);
          if (found !== undefined) courses.push(found);
        }
        return courses;
      };
      const jumps = await watched("pointermove", 1, (on) => page.mouse.move(...on));
      report(`preview after a jump, ${name}`, jumps.map(({ painted }) => painted), "p95 80", partsOf(jumps));
      const glides = await watched("pointermove", 2, (on) => page.mouse.move(...on, { steps: 12 }));
      report(`preview after a glide, ${name}`, glides.map(({ painted }) => painted), "p95 80", partsOf(glides));

      await page.getByLabel("Preview").uncheck();
      const clicks = await watched("pointerup", 3, async (on) => {
        await page.keyboard.press("Escape");
        await page.mouse.click(...on);
      });
      report(`click to masks, ${name}`, clicks.map(({ painted }) => painted), "50", partsOf(clicks));
    });
  });
}

test("another picture that was made ready", async ({ page }) => {
  const names = Array.from({ length: 16 }, (_, i) => `${String(i).padStart(2, "0")}.jpg`);
  const sizes = names.map((name, i) => [name, i % 4 === 3 ? LARGE : ORDINARY] as const);
  await withPictures(Object.fromEntries(sizes), async (studio) => {
    const at = new StudioPage(page, studio);
    await openProbed(at, "00.jpg");
    const times: { size: Size; first: number; all: number; tiles: number }[] = [];
    for (const [i, name] of names.entries()) {
      if (i === 0) continue;
      await expect(page.locator(".picture", { hasText: name }).locator(".state")).toHaveAttribute("data-embedding", "ready");
      await page.waitForTimeout(400);
      const frames = await framesOf(page, () => page.keyboard.press("."), 500);
      const pressed = await page.evaluate(() => window.probe.inputs.findLast(({ kind }) => kind === "keydown")?.at ?? 0);
      const fresh = frames.filter((frame) => frame.fresh > 0);
      const [first, last] = [fresh[0], fresh.at(-1)];
      if (first === undefined || last === undefined) throw new Error(`nothing of ${name} was painted`);
      const tiles = fresh.reduce((sum, frame) => sum + frame.fresh, 0);
      times.push({ size: sizes[i]?.[1] ?? ORDINARY, first: first.ended - pressed, all: last.ended - pressed, tiles });
    }
    for (const [name, size] of [["640x480", ORDINARY], ["12 megapixels", LARGE]] as const) {
      const mine = times.filter((time) => time.size === size);
      const parts = `all of ${median(mine, ({ tiles }) => tiles)} tiles ${median(mine, ({ all }) => all)}`;
      report(`next picture seen, ${name}`, mine.map(({ first }) => first), "100", parts);
    }
  });
});

/** The pointer goes around a circle, or the wheel turns, 125 times a second, and waits for nothing. */
async function driven(session: CDPSession, event: (turn: number) => Record<string, unknown>): Promise<void> {
  const sent: Promise<unknown>[] = [];
  const begun = performance.now();
  while (performance.now() - begun < MOVING) {
    sent.push(session.send("Input.dispatchMouseEvent", event((performance.now() - begun) / MOVING) as never));
    await new Promise((resolve) => setTimeout(resolve, 8));
  }
  await Promise.all(sent);
}

function reportFrames(what: string, all: readonly Frame[]): void {
  const [first, last] = [all[0], all.at(-1)];
  if (first === undefined || last === undefined) throw new Error(`${what}: nothing was drawn`);
  const rate = (1000 * (all.length - 1)) / (last.begun - first.begun);
  const steps = all.slice(1).map(({ begun }, i) => begun - (all[i]?.begun ?? 0));
  const three = (times: readonly number[]): string => [0.5, 0.95, 1].map((share) => ms(quantile(times, share))).join(" / ");
  const parts = [
    `p50 / p95 / most: script of a frame ${three(all.map(({ script }) => script))}`,
    `with painting ${three(all.map(({ begun, ended }) => ended - begun))}`,
    `frame to frame ${three(steps)}`,
  ].join(", ");
  rows.push([`${what}: frames a second`, String(all.length), rate.toFixed(1), "", "60", parts]);
}

async function keepMasks(page: Page, studio: Studio, size: Size): Promise<void> {
  const pictures = new URL("/v1/project/pictures", studio.url).href;
  const { pictures: told } = (await (await fetch(pictures)).json()) as { pictures: { id: number }[] };
  const edits = makeMasks(size, MASKS, 4).map((mask) => ({
    add: { mask: encode(mask), class: null, predicted_iou: null, prompt: null, attributes: {} },
  }));
  const answer = await fetch(`${pictures}/${told[0]?.id ?? 0}/edits`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ edits }),
  });
  if (!answer.ok) throw new Error(await answer.text());
  await expect(page.locator(".object")).toHaveCount(MASKS);
}

test("many masks on a large picture are moved and zoomed", async ({ page }) => {
  await withPictures({ "one.jpg": LARGE }, async (studio) => {
    const at = new StudioPage(page, studio);
    await openProbed(at, "one.jpg");
    await keepMasks(page, studio, LARGE);
    await page.waitForTimeout(1000);
    const session = await page.context().newCDPSession(page);
    const [x, y] = await at.place([LARGE[0] / 2, LARGE[1] / 2], LARGE);
    const pan = async (radius: number): Promise<readonly Frame[]> => {
      await page.mouse.move(x, y);
      await page.mouse.down({ button: "middle" });
      const frames = await framesOf(
        page,
        () =>
          driven(session, (turn) => {
            const angle = 4 * Math.PI * turn;
            const to = { x: x + radius * Math.sin(angle), y: y + radius * (Math.cos(angle) - 1) };
            return { type: "mouseMoved", button: "middle", buttons: 4, ...to };
          }),
        0,
      );
      await page.mouse.up({ button: "middle" });
      return frames;
    };
    reportFrames("pan, all of the picture", await pan(100));
    const wheel = (by: (turn: number) => number) =>
      driven(session, (turn) => ({ type: "mouseWheel", x, y, deltaX: 0, deltaY: by(turn) }));
    // In to about eight times as large, and out again.
    reportFrames("zoom by the wheel", await framesOf(page, () => wheel((turn) => (turn < 0.5 ? -5 : 5)), 0));
    await page.keyboard.press("f");
    await page.mouse.move(x, y);
    for (let i = 0; i < 9; i++) await page.mouse.wheel(0, -100);
    await page.waitForTimeout(1000);
    reportFrames("pan, enlarged", await pan(200));
    await page.waitForTimeout(500);
    reportFrames("pan, enlarged, again", await pan(200));
  });
});
