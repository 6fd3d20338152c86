/** Somebody who knows the objects draws one on each of fifty pictures, with the mouse and the keys. */

import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { answersOf, type WireAnswer } from "../src/core/answer";
import type { Mask } from "../src/core/mask";
import { StudioPage } from "../e2e/page";
import { Studio, expect, test } from "../e2e/server";
import { chance, mean, quantile, table } from "./numbers";
import { fromRepository } from "./pictures";
import { openProbed } from "./probe";
import { correction, iou, somewhereInside, truths, type Truth } from "./truth";

type Point = readonly [x: number, y: number];

const COUNT = 25;
/** Good enough. */
const GOOD = 0.85;
const MOST_CLICKS = 4;
/** Pixels of the screen around a click in which another takes it back. */
const NEAR = 10;

const SETS = [
  ["dsb2018", 0],
  ["coco256", 400],
] as const;
/** Whether one looks at the three masks and chooses, or takes what is proposed. */
const WAYS = [
  ["chooses of three", true],
  ["takes the proposed", false],
] as const;

interface Made {
  readonly first: number;
  readonly last: number;
  readonly clicks: number;
  readonly keys: number;
  /** From the first press until the object is in the list. */
  readonly seconds: number;
  /** Of it, what one waits for the page. */
  readonly waited: number;
}

/** The masks of an answer in the page's order. */
function masksOf(answer: string): readonly Mask[] {
  return answersOf(JSON.parse(answer) as WireAnswer).flatMap(({ candidates }) => candidates).map(({ mask }) => mask);
}

class Somebody {
  private readonly clicks: Point[] = [];
  private keys = 0;
  private waited = 0;
  private begun = 0;

  constructor(
    private readonly at: StudioPage,
    private readonly truth: Mask,
  ) {}

  /** Clicks, and answers with the masks once they are seen. */
  private async click(point: Point, button: "left" | "right"): Promise<readonly Mask[]> {
    const { page } = this.at;
    const before = await page.evaluate(() => window.probe.predictions.length);
    this.clicks.push(point);
    await page.mouse.click(...(await this.onScreen(point)), { button });
    const count = this.clicks.length;
    const answer = await page.waitForFunction(
      ([before, count]) => {
        const { predictions, inputs } = window.probe;
        const found = predictions.find(({ points, painted }, i) => i >= before && points.length === count && painted > 0);
        const since = inputs.findLast(({ kind }) => kind === "pointerup")?.at ?? 0;
        return found && { text: found.text, waited: found.painted - since };
      },
      [before, count] as const,
      { polling: 10 },
    );
    const told = await answer.jsonValue();
    await this.at.answered();
    if (told === undefined) throw new Error("no answer");
    this.waited += told.waited;
    if (count === 1) {
      this.begun = await page.evaluate(() => window.probe.inputs.findLast(({ kind }) => kind === "pointerdown")?.at ?? 0);
    }
    return masksOf(told.text);
  }

  private async onScreen([x, y]: Point): Promise<[number, number]> {
    return this.at.place([x + 0.5, y + 0.5], [...this.truth.size]);
  }

  /** The mask that the page proposes, or the best of them. */
  private async choose(masks: readonly Mask[], isChoosing: boolean): Promise<Mask> {
    const { candidates, page } = this.at;
    await expect(candidates).toHaveCount(masks.length);
    const chosen = await candidates.evaluateAll((all) => all.findIndex((one) => one.ariaChecked === "true"));
    const ious = masks.map((mask) => iou(mask, this.truth));
    const best = isChoosing ? ious.indexOf(Math.max(...ious)) : chosen;
    if (best !== chosen && (ious[best] ?? 0) > (ious[chosen] ?? 0)) {
      this.keys++;
      await page.keyboard.press(String(best + 1));
      await expect(candidates.nth(best)).toHaveAttribute("aria-checked", "true");
    }
    const mask = masks[best];
    if (mask === undefined) throw new Error("no mask to choose");
    return mask;
  }

  async draws(first: Point, isChoosing: boolean): Promise<Made> {
    let mask = await this.choose(await this.click(first, "left"), isChoosing);
    const iouOfFirst = iou(mask, this.truth);
    const [[left], [right]] = [await this.onScreen([0, 0]), await this.onScreen([1, 0])];
    while (iou(mask, this.truth) < GOOD && this.clicks.length < MOST_CLICKS) {
      const isNear = ([x, y]: Point): boolean =>
        this.clicks.some((click) => Math.hypot(click[0] - x, click[1] - y) * (right - left) <= NEAR);
      const next = correction(mask, this.truth, isNear);
      if (next === undefined) break;
      mask = await this.choose(await this.click(next.at, next.isMissing ? "left" : "right"), isChoosing);
    }
    const kept = await this.keep();
    const last = iou(mask, this.truth);
    const { clicks, keys, waited, begun } = this;
    return { first: iouOfFirst, last, clicks: clicks.length, keys, seconds: (kept - begun) / 1000, waited: waited / 1000 };
  }

  /** Answers when the object is in the list. */
  private async keep(): Promise<number> {
    const { page } = this.at;
    const kept = page.evaluate(
      () =>
        new Promise<number>((done) => {
          const count = document.querySelectorAll(".object").length;
          const observer = new MutationObserver(() => {
            if (document.querySelectorAll(".object").length <= count) return;
            observer.disconnect();
            done(performance.now());
          });
          observer.observe(document.body, { childList: true, subtree: true });
        }),
    );
    this.keys++;
    await page.keyboard.press("Enter");
    const time = await kept;
    const pressed = await page.evaluate(() => window.probe.inputs.findLast(({ kind }) => kind === "keydown")?.at ?? 0);
    this.waited += time - pressed;
    return time;
  }
}

function row(way: string, all: readonly Made[]): string[] {
  const two = (numbers: readonly number[]): string => `${mean(numbers).toFixed(3)} / ${quantile(numbers, 0.5).toFixed(3)}`;
  const good = all.filter(({ last }) => last >= GOOD).length;
  return [
    way,
    String(all.length),
    two(all.map(({ first }) => first)),
    two(all.map(({ last }) => last)),
    `${good}`,
    mean(all.map(({ clicks }) => clicks)).toFixed(2),
    mean(all.map(({ clicks, keys }) => clicks + keys)).toFixed(2),
    mean(all.map(({ seconds }) => seconds)).toFixed(2),
    mean(all.map(({ waited }) => waited)).toFixed(2),
  ];
}

const HEAD = [
  "way",
  "masks",
  "IoU after one click (mean / median)",
  "IoU at the end",
  `of ${GOOD} and more`,
  "clicks",
  "clicks and keys",
  "seconds a mask",
  "of them waited",
];

const rows = new Map<string, string[][]>(SETS.map(([set]) => [set, []]));

test.afterAll(() => {
  for (const [set, lines] of rows) if (lines.length > 0) console.log(`\n${set}\n\n${table(HEAD, lines)}\n`);
});

for (const [set, smallest] of SETS) {
  for (const [way, isChoosing] of WAYS) {
    test(`twenty-five pictures of ${set}, by somebody who ${way}`, async ({ page }) => {
      const random = chance(2018);
      const all = await truths(set, COUNT, smallest, random);
      const firsts = all.map(({ mask }) => somewhereInside(mask, random));
      const work = await realpath(await mkdtemp(join(tmpdir(), "samara-studio-")));
      try {
        const studio = await Studio.start(work, all.map(({ path }) => fromRepository(path)));
        try {
          rows.get(set)?.push(row(way, await drawn(new StudioPage(page, studio), all, firsts, isChoosing)));
        } finally {
          await studio.stop();
        }
      } finally {
        await rm(work, { recursive: true, force: true });
      }
    });
  }
}

async function drawn(
  at: StudioPage,
  all: readonly Truth[],
  firsts: readonly Point[],
  isChoosing: boolean,
): Promise<readonly Made[]> {
  await openProbed(at, all[0]?.name ?? "");
  const made: Made[] = [];
  for (const [i, { name, mask }] of all.entries()) {
    await at.show(name);
    const first = firsts[i];
    if (first === undefined) throw new Error(`no first click on ${name}`);
    const one = await new Somebody(at, mask).draws(first, isChoosing);
    made.push(one);
    if (process.env["STUDIO_VERBOSE"] !== undefined) console.log(name, JSON.stringify(one));
  }
  return made;
}
