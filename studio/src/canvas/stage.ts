/** The canvas: draws the picture and what lies on it, and hands the pointer to the tools. */

import { computed, effect, signal, type ReadonlySignal } from "@preact/signals";

import { fitted, moved, toPicture, zoomed, type Point, type View } from "../core/view";
import type { Studio } from "../state/studio";
import type { ToolName } from "../state/settings";
import { Overlay } from "./overlay";
import { drawCursor, drawMade, drawObjects } from "./paint";
import { Tiles } from "./tiles";
import { DRAG, held, type Scene, type Tool, type Touch } from "./tool";
import { Brush } from "./tools/brush";
import { hand } from "./tools/hand";
import { pick } from "./tools/pick";
import { Polygon } from "./tools/polygon";
import { Segment } from "./tools/segment";
import { select } from "./tools/select";

/** How much a step of the wheel or a key enlarges. */
const ZOOM = 1.25;

export class Stage {
  readonly view = signal<View>({ scale: 1, x: 0, y: 0 });
  /** Where the keys point at, in pixels of the picture; null while the mouse does. */
  readonly cursor = signal<Point | null>(null);
  readonly stretch = signal<readonly [number, number] | null>(null);
  /** What can be done here with the tool that is in the hand. */
  readonly hint = computed(() => {
    const open = this.studio.open.value;
    if (open === null) return "Choose a picture from the list.";
    const progress = this.studio.everything.progress.value;
    if (progress !== null) return `Everything is being looked for: ${Math.round(100 * progress)} %. Escape stops it.`;
    return this.tool.value.hint(this.studio);
  });

  private readonly tools: Readonly<Record<ToolName, Tool>> = {
    segment: new Segment(),
    select,
    brush: new Brush(false),
    eraser: new Brush(true),
    polygon: new Polygon(),
    pick,
    hand,
  };
  private readonly tool = computed(() => this.tools[this.studio.settings.tool.value]);
  private held: Tool = this.tools.segment;
  private readonly overlay = new Overlay(() => {
    this.redraw();
  });
  private readonly context: CanvasRenderingContext2D;
  private readonly pointers = new Map<number, Point>();
  private tiles: Tiles | null = null;
  /** Of the frame before, until there are tiles of this one. */
  private before: Tiles | null = null;
  private shownVideo: number | null = null;
  private shownStretch: readonly [number, number] | null = null;
  private screen: Point = [1, 1];
  private ratio = 1;
  private visit = 0;
  private isDue = false;
  private isPressed = false;
  private isPanning = false;
  private walked = 0;
  private clicksBefore = 0;
  private lastDown = { at: [0, 0] as Point, time: -Infinity };
  private readonly stops: (() => void)[] = [];

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly studio: Studio,
  ) {
    const context = canvas.getContext("2d", { alpha: false });
    if (context === null) throw new Error("This browser has no canvas.");
    this.context = context;
    const observer = new ResizeObserver(() => {
      this.resize();
    });
    observer.observe(canvas);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const onTheme = (): void => {
      this.redraw();
    };
    dark.addEventListener("change", onTheme);
    this.stops.push(
      () => {
        dark.removeEventListener("change", onTheme);
      },
      () => {
        observer.disconnect();
      },
      effect(() => {
        this.opened();
      }),
      ...this.watched(),
      effect(() => {
        const tool = this.tool.value;
        if (tool === this.held) return;
        this.held.leave?.(this.scene);
        this.held = tool;
        // Clicks of two tools are not a double click.
        this.lastDown.time = -Infinity;
      }),
      effect(() => {
        canvas.style.cursor = this.isPanning ? "grabbing" : this.tool.value.cursor;
      }),
    );
    this.listen();
  }

  close(): void {
    for (const stop of this.stops) stop();
    this.tiles?.close();
    this.before?.close();
  }

  redraw(): void {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.draw();
    });
  }

  /** Draws again when something changes that is drawn. */
  private watched(): (() => void)[] {
    const { studio } = this;
    const { prompting, everything, settings } = studio;
    const base = computed(() => prompting.draft.value?.base?.id);
    const resting = [studio.objects, studio.selected, studio.hidden, studio.classes, settings.opacity, base];
    const live = [
      ...[this.view, this.cursor, prompting.draft, prompting.preview, everything.nodes, everything.current],
      ...[settings.tool, settings.brush, settings.fineness, settings.theme, studio.nextColour, studio.target],
      studio.saving.masks,
    ];
    return [
      effect(() => {
        resting.forEach(read);
        this.overlay.invalidate();
        this.redraw();
      }),
      effect(() => {
        live.forEach(read);
        this.redraw();
      }),
    ];
  }

  /** In the place of a picture whose file is gone. */
  private drawSheet({ scale, x, y }: View): void {
    const [width, height] = this.size;
    this.context.fillStyle = "#8b8f98";
    this.context.fillRect(x, y, width * scale, height * scale);
  }

  private get size(): Point {
    const image = this.studio.open.peek()?.image;
    return image === undefined ? [1, 1] : [image.width, image.height];
  }

  private get scene(): Scene {
    return {
      studio: this.studio,
      view: this.view.peek(),
      size: this.size,
      redraw: () => {
        this.redraw();
      },
    };
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    const wasFitted = this.isFitted();
    this.ratio = window.devicePixelRatio;
    this.screen = [Math.max(1, clientWidth), Math.max(1, clientHeight)];
    this.canvas.width = Math.round(this.screen[0] * this.ratio);
    this.canvas.height = Math.round(this.screen[1] * this.ratio);
    if (wasFitted) this.fit();
    this.redraw();
  }

  private isFitted(): boolean {
    const [now, whole] = [this.view.peek(), fitted(this.size, this.screen)];
    return now.scale === whole.scale && now.x === whole.x && now.y === whole.y;
  }

  fit(): void {
    this.view.value = fitted(this.size, this.screen);
  }

  zoom(factor: number, at: Point = [this.screen[0] / 2, this.screen[1] / 2]): void {
    const smallest = Math.min(1, fitted(this.size, this.screen).scale) / 4;
    this.view.value = zoomed(this.view.peek(), at, factor, smallest);
  }

  private pan(by: Point): void {
    this.view.value = moved(this.view.peek(), by, this.size, this.screen);
  }

  /** Another picture, or another stretch of its values. */
  private opened(): void {
    const open = this.studio.open.value;
    const stretch = this.stretch.value;
    if (open === null || (open.visit === this.visit && stretch === this.shownStretch)) return;
    if (open.visit !== this.visit) {
      this.visit = open.visit;
      this.stretch.value = null;
      this.cursor.value = null;
      this.show(null);
      this.fit();
      // A picture that was chosen in the list is worked on next.
      if (document.activeElement?.closest("nav") !== null) this.canvas.focus({ preventScroll: true });
    } else {
      this.show(stretch);
    }
    this.redraw();
  }

  private show(stretch: readonly [number, number] | null): void {
    const open = this.studio.open.peek();
    // A frame of a video is seen until the next one is there.
    const { tiles, before } = this;
    const isNextFrame = open !== null && open.picture.video !== null && open.picture.video === this.shownVideo;
    this.before = isNextFrame && tiles?.isBlank === false ? tiles : isNextFrame ? before : null;
    for (const old of [tiles, before]) if (old !== this.before) old?.close();
    this.tiles = null;
    this.shownStretch = stretch;
    this.shownVideo = open?.picture.video ?? null;
    if (open === null || open.isMissing) return;
    this.tiles = new Tiles(
      this.studio.api,
      open.picture.id,
      this.size,
      stretch,
      () => {
        this.redraw();
      },
      (error) => {
        this.studio.tell("error", error instanceof Error ? error.message : String(error));
      },
    );
  }

  private draw(): void {
    const { context, ratio, screen, studio } = this;
    const view = this.view.peek();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = getComputedStyle(this.canvas).backgroundColor;
    context.fillRect(0, 0, ...screen);
    if (studio.open.peek() === null) return;
    if (this.tiles?.isBlank === true) this.before?.draw(context, view, screen, ratio);
    this.tiles?.draw(context, view, screen, ratio);
    if (this.tiles === null) this.drawSheet(view);
    this.overlay.draw(context, view, screen, ratio, (layer, at) => {
      drawObjects(layer, studio, at.scale);
    });
    context.setTransform(view.scale * ratio, 0, 0, view.scale * ratio, view.x * ratio, view.y * ratio);
    drawMade(context, studio, view.scale);
    this.tool.peek().draw?.(this.scene, context);
    const cursor = this.cursor.peek();
    if (cursor !== null) drawCursor(context, cursor, view.scale);
  }

  private touch(event: MouseEvent): Touch {
    const bounds = this.canvas.getBoundingClientRect();
    const screen: Point = [event.clientX - bounds.left, event.clientY - bounds.top];
    return {
      at: toPicture(this.view.peek(), screen),
      screen,
      isOther: event.button === 2 || event.altKey,
      isAdding: event.ctrlKey || event.metaKey || event.shiftKey,
      clicks: event.detail,
    };
  }

  private listen(): void {
    const { canvas } = this;
    canvas.addEventListener("contextmenu", (event) => {
      event.preventDefault();
    });
    canvas.addEventListener("pointerdown", (event) => {
      this.pressed(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.dragged(event);
    });
    canvas.addEventListener("pointerup", (event) => {
      this.released(event);
    });
    canvas.addEventListener("pointercancel", () => {
      this.pointers.clear();
      this.isPressed = this.isPanning = false;
      this.tool.peek().cancel?.(this.scene);
    });
    canvas.addEventListener("pointerleave", () => {
      if (!this.isPressed) this.tool.peek().leave?.(this.scene);
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.wheeled(event);
      },
      { passive: false },
    );
  }

  private pressed(event: PointerEvent): void {
    if (this.studio.open.peek() === null) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor.value = null;
    const touch = this.touch(event);
    this.pointers.set(event.pointerId, touch.screen);
    if (this.pointers.size === 2) {
      // Two fingers move the picture.
      this.tool.peek().cancel?.(this.scene);
      this.isPressed = false;
      return;
    }
    if (event.button === 1 || this.studio.settings.tool.peek() === "hand") {
      this.isPanning = true;
      this.canvas.style.cursor = "grabbing";
      return;
    }
    const { at, time } = this.lastDown;
    const isAgain = event.timeStamp - time < 400 && Math.hypot(touch.screen[0] - at[0], touch.screen[1] - at[1]) < DRAG;
    this.clicksBefore = isAgain ? this.clicksBefore + 1 : 1;
    this.lastDown = { at: touch.screen, time: event.timeStamp };
    this.isPressed = true;
    this.tool.peek().down?.(this.scene, { ...touch, clicks: this.clicksBefore });
  }

  private dragged(event: PointerEvent): void {
    if (this.studio.open.peek() === null) return;
    const touch = this.touch(event);
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) {
      this.cursor.value = null;
      this.tool.peek().hover?.(this.scene, touch);
      return;
    }
    const [other] = [...this.pointers].flatMap(([id, at]) => (id === event.pointerId ? [] : [at]));
    if (other !== undefined) this.pinched(other, before, touch.screen);
    else if (this.isPanning) this.pan([touch.screen[0] - before[0], touch.screen[1] - before[1]]);
    else if (this.isPressed) this.tool.peek().move?.(this.scene, touch);
    this.pointers.set(event.pointerId, touch.screen);
  }

  private pinched(other: Point, before: Point, now: Point): void {
    const [was, is] = [Math.hypot(before[0] - other[0], before[1] - other[1]), Math.hypot(now[0] - other[0], now[1] - other[1])];
    const middle: Point = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    if (was > 0 && is > 0) this.zoom(is / was, middle);
    this.pan([(now[0] - before[0]) / 2, (now[1] - before[1]) / 2]);
  }

  private released(event: PointerEvent): void {
    this.pointers.delete(event.pointerId);
    if (this.isPanning) {
      this.isPanning = false;
      this.canvas.style.cursor = this.tool.peek().cursor;
    } else if (this.isPressed) {
      this.isPressed = false;
      this.tool.peek().up?.(this.scene, this.touch(event));
    }
  }

  /** Walks through the candidates while one is to be chosen, and zooms otherwise. */
  private wheeled(event: WheelEvent): void {
    const by = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 * event.deltaY : event.deltaY;
    const { prompting, everything } = this.studio;
    const walks = !event.ctrlKey && (prompting.draft.peek() !== null || event.shiftKey || everything.isShown.peek());
    if (!walks) {
      this.zoom(Math.exp(-by * (event.ctrlKey ? 0.008 : 0.002)), this.touch(event).screen);
      return;
    }
    // A wheel turns in steps, a touchpad in many small ones. Shift makes some browsers scroll sideways.
    this.walked += by === 0 ? event.deltaX : by;
    const steps = Math.trunc(this.walked / 50);
    if (steps === 0) return;
    this.walked = 0;
    const sign = Math.sign(steps);
    if (everything.isShown.peek()) everything.walk(sign > 0 ? "in" : "out");
    else prompting.walk(sign);
  }

  /** Moves what the keys point at, by pixels of the screen. */
  point([dx, dy]: Point): void {
    const { scale } = this.view.peek();
    const size = this.size;
    const before = this.cursor.peek() ?? toPicture(this.view.peek(), [this.screen[0] / 2, this.screen[1] / 2]);
    const at = held([before[0] + dx / scale, before[1] + dy / scale], size);
    this.cursor.value = at;
    this.keepInSight(at);
    const touch = this.keyTouch(at, false);
    if (this.isPressed) this.tool.peek().move?.(this.scene, touch);
    else this.tool.peek().hover?.(this.scene, touch);
  }

  private keepInSight(at: Point): void {
    const view = this.view.peek();
    const off = (position: number, room: number): number =>
      position < 20 ? 20 - position : Math.min(0, room - 20 - position);
    const by: Point = [
      off(at[0] * view.scale + view.x, this.screen[0]),
      off(at[1] * view.scale + view.y, this.screen[1]),
    ];
    if (by[0] !== 0 || by[1] !== 0) this.pan(by);
  }

  private keyTouch(at: Point, isOther: boolean): Touch {
    const { scale, x, y } = this.view.peek();
    return { at, screen: [at[0] * scale + x, at[1] * scale + y], isOther, isAdding: false, clicks: 1 };
  }

  /** A click where the keys point at. */
  press(isOther: boolean): void {
    const at = this.cursor.peek();
    if (at === null) {
      this.point([0, 0]);
      return;
    }
    const tool = this.tool.peek();
    const touch = this.keyTouch(at, isOther);
    if (this.isPressed) {
      this.isPressed = false;
      tool.up?.(this.scene, touch);
      return;
    }
    tool.down?.(this.scene, touch);
    tool.up?.(this.scene, touch);
  }

  /** Presses and holds where the keys point at: the next press lets go. Draws boxes and strokes by keys. */
  hold(isOther: boolean): void {
    const at = this.cursor.peek();
    if (at === null || this.isPressed) {
      this.press(isOther);
      return;
    }
    this.isPressed = true;
    this.tool.peek().down?.(this.scene, this.keyTouch(at, isOther));
  }

  /** Answers whether there was something to be ended. */
  finish(): boolean {
    return this.tool.peek().finish?.(this.scene) ?? false;
  }

  /** Answers whether there was a step of a tool to be undone: a corner of a polygon that is not closed. */
  undo(): boolean {
    return this.tool.peek().undo?.(this.scene) ?? false;
  }

  cancel(): boolean {
    this.isPressed = false;
    return this.tool.peek().cancel?.(this.scene) ?? false;
  }

  zoomIn(): void {
    this.zoom(ZOOM);
  }

  zoomOut(): void {
    this.zoom(1 / ZOOM);
  }
}

function read(value: ReadonlySignal<unknown>): unknown {
  return value.value;
}
