/** The pixels of the picture, in tiles: those that are seen, as fine as the screen shows them. */

import type { Api } from "../core/api";
import { SIDE, topLevel } from "../core/pyramid";
import type { View } from "../core/view";

/** How many are kept. */
const MOST = 160;
const AT_ONCE = 6;

interface Tile {
  bitmap: ImageBitmap | null;
  /** The last frame in which it was wanted. */
  seen: number;
  loading: AbortController | null;
}

type Place = readonly [level: number, x: number, y: number];

export class Tiles {
  private readonly tiles = new Map<string, Tile>();
  private frame = 0;
  private loading = 0;
  private wanted: Place[] = [];
  private isGone = false;

  constructor(
    private readonly api: Api,
    private readonly picture: number,
    private readonly size: readonly [number, number],
    private readonly stretch: readonly [number, number] | null,
    /** Called when there is more to be seen. */
    private readonly onMore: () => void,
    private readonly onError: (error: unknown) => void,
  ) {}

  close(): void {
    this.isGone = true;
    for (const { bitmap, loading } of this.tiles.values()) {
      loading?.abort();
      bitmap?.close();
    }
    this.tiles.clear();
  }

  /** Nothing of it can be seen yet. */
  get isBlank(): boolean {
    return [...this.tiles.values()].every(({ bitmap }) => bitmap === null);
  }

  private get top(): number {
    return topLevel(this.size);
  }

  draw(context: CanvasRenderingContext2D, view: View, screen: readonly [number, number], ratio: number): void {
    this.frame++;
    const finest = Math.max(0, Math.min(this.top, Math.floor(Math.log2(1 / (view.scale * ratio)))));
    this.wanted = [];
    context.imageSmoothingEnabled = view.scale < 4;
    // A level is reduced by less than two; more care is seen by nobody, and costs most of a frame without a GPU.
    context.imageSmoothingQuality = "low";
    for (let level = this.top; level >= finest; level--) {
      // Of the levels between, what is there by chance; all is under it at the top, and wanted at the finest.
      const isWanted = level === this.top || level === finest;
      this.drawLevel(context, view, screen, level, isWanted);
    }
    this.forget();
    this.load();
  }

  private drawLevel(
    context: CanvasRenderingContext2D,
    view: View,
    screen: readonly [number, number],
    level: number,
    isWanted: boolean,
  ): void {
    const step = SIDE * 2 ** level;
    const [columns, rows] = this.size.map((side) => Math.ceil(side / step)) as [number, number];
    const range = (offset: number, room: number, count: number): [number, number] => [
      Math.max(0, Math.floor(-offset / view.scale / step)),
      Math.min(count - 1, Math.floor((room - offset) / view.scale / step)),
    ];
    const [left, right] = range(view.x, screen[0], columns);
    const [top, bottom] = range(view.y, screen[1], rows);
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const tile = this.tiles.get(`${level}/${x}/${y}`);
        if (tile !== undefined) tile.seen = this.frame;
        if (tile?.bitmap) this.drawTile(context, view, tile.bitmap, [level, x, y]);
        else if (isWanted && tile === undefined) this.wanted.push([level, x, y]);
      }
    }
  }

  private drawTile(context: CanvasRenderingContext2D, view: View, bitmap: ImageBitmap, [level, x, y]: Place): void {
    const step = SIDE * 2 ** level;
    const [width, height] = this.size;
    const [x0, y0] = [x * step, y * step];
    const [x1, y1] = [Math.min(width, x0 + step), Math.min(height, y0 + step)];
    context.drawImage(
      bitmap,
      x0 * view.scale + view.x,
      y0 * view.scale + view.y,
      (x1 - x0) * view.scale,
      (y1 - y0) * view.scale,
    );
  }

  private load(): void {
    while (this.loading < AT_ONCE) {
      const place = this.wanted.shift();
      if (place === undefined) return;
      void this.fetch(place);
    }
  }

  private async fetch(place: Place): Promise<void> {
    const key = place.join("/");
    if (this.tiles.has(key)) return;
    const loading = new AbortController();
    const tile: Tile = { bitmap: null, seen: this.frame, loading };
    this.tiles.set(key, tile);
    this.loading++;
    try {
      const blob = await this.api.tile(this.picture, place, this.stretch, loading.signal);
      tile.bitmap = await createImageBitmap(blob);
      if (this.isGone) tile.bitmap.close();
    } catch (error) {
      if (loading.signal.aborted || this.isGone) this.tiles.delete(key);
      else {
        this.onError(error);
        // It is asked for again after a while, when the server may answer.
        setTimeout(() => {
          this.tiles.delete(key);
          if (!this.isGone) this.onMore();
        }, 2000);
      }
    } finally {
      tile.loading = null;
      this.loading--;
    }
    if (!this.isGone) this.onMore();
  }

  /** Gives up what is not seen any more, and keeps few of the others. */
  private forget(): void {
    const unseen = [...this.tiles].filter(([, tile]) => tile.seen !== this.frame);
    for (const [key, { loading }] of unseen) {
      if (loading === null) continue;
      loading.abort();
      this.tiles.delete(key);
    }
    const old = unseen.filter(([, { bitmap }]) => bitmap !== null).sort(([, a], [, b]) => a.seen - b.seen);
    for (const [key, tile] of old.slice(0, Math.max(0, this.tiles.size - MOST))) {
      tile.bitmap?.close();
      this.tiles.delete(key);
    }
  }
}
