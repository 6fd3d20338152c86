/** Watches the page from inside: what is pressed, what is asked, and when it is painted. */

import type { Page } from "@playwright/test";

import type { StudioPage } from "../e2e/page";

/** All times are milliseconds since the page began. */
export interface Prediction {
  /** The points of the question. */
  readonly points: readonly (readonly [number, number, number])[];
  readonly asked: number;
  /** The answer begins. */
  begun: number;
  /** The answer is there as objects of the page. */
  read: number;
  /** The first frame with it is handed over to be shown; 0 before. */
  painted: number;
  text: string;
}

export interface Frame {
  readonly begun: number;
  /** Milliseconds of the callbacks that draw. */
  script: number;
  /** Its layout and painting are done; the browser draws it in a process of its own from here on. */
  ended: number;
  isDrawn: boolean;
  /** Bitmaps of the picture that are drawn for the first time. */
  fresh: number;
}

export interface Probe {
  readonly predictions: Prediction[];
  readonly inputs: { readonly kind: string; readonly at: number }[];
  readonly frames: Frame[];
}

declare global {
  interface Window {
    probe: Probe;
  }
}

/** Runs in the page before anything of it, and knows nothing of this file. */
function install(): void {
  const probe: Probe = { predictions: [], inputs: [], frames: [] };
  window.probe = probe;

  let frame: Frame = { begun: 0, script: 0, ended: 0, isDrawn: false, fresh: 0 };
  let time = 0;
  const close = new MessageChannel();
  const open: Frame[] = [];
  // A message from a callback of a frame arrives when the frame is done.
  close.port1.onmessage = () => {
    const ended = open.shift();
    if (ended === undefined) return;
    ended.ended = performance.now();
    if (!ended.isDrawn) return;
    for (const prediction of probe.predictions) {
      const isNew = prediction.painted === 0 && prediction.read > 0 && prediction.read <= ended.begun;
      if (isNew) prediction.painted = ended.ended;
    }
  };
  const request = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) =>
    request((now) => {
      const begun = performance.now();
      if (now !== time) {
        time = now;
        frame = { begun, script: 0, ended: 0, isDrawn: false, fresh: 0 };
        probe.frames.push(frame);
        open.push(frame);
        close.port2.postMessage(null);
      }
      const mine = frame;
      callback(now);
      mine.script += performance.now() - begun;
    });

  const isStage = (context: CanvasRenderingContext2D): boolean => context.canvas.classList.contains("canvas");
  const drawing = CanvasRenderingContext2D.prototype;
  type Call = (this: CanvasRenderingContext2D, ...given: unknown[]) => void;
  const [fillRect, drawImage] = ["fillRect", "drawImage"].map((name) => Reflect.get(drawing, name) as Call) as [Call, Call];
  drawing.fillRect = function (this: CanvasRenderingContext2D, ...given: unknown[]) {
    if (isStage(this)) frame.isDrawn = true;
    fillRect.apply(this, given);
  };
  const drawn = new WeakSet();
  drawing.drawImage = function (this: CanvasRenderingContext2D, ...given: unknown[]) {
    const [image] = given;
    if (image instanceof ImageBitmap && !drawn.has(image) && isStage(this)) {
      drawn.add(image);
      frame.fresh++;
    }
    drawImage.apply(this, given);
  };

  const ask = window.fetch.bind(window);
  window.fetch = async (input, init) => {
    if (typeof input !== "string" || !input.endsWith("/v1/predict")) return ask(input, init);
    const body = JSON.parse(init?.body as string) as { prompts: { points?: [number, number, number][] }[] };
    const points = body.prompts[0]?.points ?? [];
    const prediction: Prediction = { points, asked: performance.now(), begun: 0, read: 0, painted: 0, text: "" };
    probe.predictions.push(prediction);
    const response = await ask(input, init);
    prediction.begun = performance.now();
    response.json = async () => {
      prediction.text = await response.text();
      const told: unknown = JSON.parse(prediction.text);
      prediction.read = performance.now();
      return told;
    };
    return response;
  };

  for (const kind of ["pointermove", "pointerdown", "pointerup", "keydown"]) {
    window.addEventListener(kind, ({ timeStamp }) => probe.inputs.push({ kind, at: timeStamp }), { capture: true });
  }
}

/** The page opens with a probe in it. Routes that a fixture has made are taken off then: they delay every answer. */
export async function openProbed(at: StudioPage, picture: string): Promise<void> {
  await at.page.addInitScript(install);
  await at.open(picture);
  await at.page.context().unrouteAll();
}

export async function addProbe(page: Page): Promise<void> {
  await page.addInitScript(install);
}

/** How an answer came about: every time is in milliseconds since what was done. */
export interface Course {
  readonly asked: number;
  readonly begun: number;
  readonly read: number;
  readonly painted: number;
}

/**
 * The answer to a question about a place, once it is painted: since the last input of a kind before it was asked.
 * Undefined if there is none after a while.
 */
export async function course(
  page: Page,
  kind: string,
  [x, y]: readonly [number, number],
  tolerance: number,
): Promise<Course | undefined> {
  return page.evaluate(
    async ([kind, x, y, tolerance]) => {
      const end = performance.now() + 3000;
      while (performance.now() < end) {
        const { predictions, inputs } = window.probe;
        const found = predictions.findLast(({ points, painted }) => {
          const last = points[points.length - 1];
          return painted > 0 && last !== undefined && Math.hypot(last[0] - x, last[1] - y) <= tolerance;
        });
        if (found !== undefined) {
          const since = inputs.findLast((input) => input.kind === kind)?.at ?? Number.NaN;
          const { asked, begun, read, painted } = found;
          return { asked: asked - since, begun: begun - since, read: read - since, painted: painted - since };
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return undefined;
    },
    [kind, x, y, tolerance] as const,
  );
}

/** Runs something, and answers the frames meanwhile, until nothing more has been drawn for a while. */
export async function framesOf(page: Page, work: () => Promise<void>, quiet = 300): Promise<readonly Frame[]> {
  const from = await page.evaluate(() => performance.now());
  await work();
  return page.evaluate(
    async ([from, quiet]) => {
      const drawn = (): Frame[] => window.probe.frames.filter(({ begun, isDrawn }) => isDrawn && begun >= from);
      const end = performance.now() + 5000;
      while (performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        const last = drawn().at(-1);
        if (last !== undefined && performance.now() - last.ended > quiet) break;
      }
      return drawn();
    },
    [from, quiet] as const,
  );
}
