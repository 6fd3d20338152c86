/** Corners of the outline: of a selected object, to be moved, or of a new one. */

import { signal } from "@preact/signals";

import { distance, filled, simplified } from "../../core/polygon";
import type { Point } from "../../core/view";
import type { StoredObject } from "../../core/api";
import { isSame, type Mask } from "../../core/mask";
import { NEW, type Studio } from "../../state/studio";
import { joined, ringsOf } from "../paths";
import { held, type Scene, type Tool, type Touch } from "../tool";

/** Pixels of the screen within which a corner is met, and an edge. */
const NEAR = 14;
const NEAR_EDGE = 9;

export class Polygon implements Tool {
  readonly cursor = "crosshair";
  /** The corners of an object, as they are being moved. */
  private edited: {
    object: StoredObject;
    readonly fineness: number;
    readonly rings: Point[][];
    /** The mask that was made of the corners last. */
    mask: Mask;
  } | null = null;
  private grabbed: readonly [ring: number, corner: number] | null = null;
  /** The corners of a new object. */
  private readonly corners = signal<readonly Point[]>([]);
  private at: Point | null = null;

  hint({ selection }: Studio): string {
    if (this.corners.value.length > 0) {
      return "Click for the next corner; the first one, a double click or Enter closes it. Ctrl+Z takes one back, Escape all.";
    }
    if (selection.value.length !== 1) return "Click for the corners of a new object.";
    return "Drag a corner; click on an edge for a new one; right click removes one. Enter or Escape lets go of the object.";
  }

  hover(scene: Scene, { at }: Touch): void {
    this.at = at;
    if (this.corners.peek().length > 0) scene.redraw();
  }

  down(scene: Scene, touch: Touch): void {
    const at = held(touch.at, scene.size);
    const rings = this.rings(scene);
    if (rings === null) {
      this.addCorner(scene, at, touch.clicks > 1);
      return;
    }
    const met = nearest(rings, at, scene.view.scale);
    if (met === null) {
      scene.studio.tell("note", "These corners are of the selected object. Enter or Escape lets go of it, then a click begins another.");
    } else if (touch.isOther) {
      this.removeCorner(scene, met);
    } else {
      const ring = rings[met.ring] ?? [];
      if (!met.isCorner) ring.splice(met.corner, 0, at);
      this.grabbed = [met.ring, met.corner];
    }
    scene.redraw();
  }

  move(scene: Scene, touch: Touch): void {
    if (this.grabbed === null) return;
    const [ring, corner] = this.grabbed;
    const corners = this.edited?.rings[ring];
    if (corners !== undefined) corners[corner] = held(touch.at, scene.size);
    scene.redraw();
  }

  up(scene: Scene): void {
    if (this.grabbed === null) return;
    this.grabbed = null;
    this.keep(scene);
  }

  private removeCorner(scene: Scene, met: Met): void {
    const ring = this.edited?.rings[met.ring];
    if (ring === undefined || !met.isCorner) return;
    if (ring.length === 3 && this.edited?.rings.length === 1) {
      scene.studio.tell("note", "Without this corner nothing is left; Delete removes the object.");
      return;
    }
    ring.splice(met.corner, 1);
    if (ring.length < 3) this.edited?.rings.splice(met.ring, 1);
    this.keep(scene);
  }

  private addCorner(scene: Scene, at: Point, isLast: boolean): void {
    const corners = this.corners.peek();
    const [first] = corners;
    const closes = first !== undefined && Math.hypot(at[0] - first[0], at[1] - first[1]) * scene.view.scale <= NEAR;
    if (corners.length > 2 && (isLast || closes)) this.finish(scene);
    // The second click of two at once is no corner of its own.
    else if (!isLast || first === undefined) this.corners.value = [...corners, at];
    scene.redraw();
  }

  /** The corners of the one object that is selected. */
  private rings({ studio }: Scene): Point[][] | null {
    const [object, other] = studio.selection.peek();
    if (object === undefined || other !== undefined || this.corners.peek().length > 0) return null;
    const fineness = studio.settings.fineness.peek();
    const { edited } = this;
    // The corners stay as they are when what was made of them is kept.
    if (edited?.object.id === object.id && isSame(edited.mask, object.mask)) edited.object = object;
    if (edited?.object !== object || (this.grabbed === null && edited.fineness !== fineness)) {
      const rings = ringsOf(object.mask).map((ring) => [...simplified(ring, fineness)]);
      this.edited = { object, fineness, rings, mask: object.mask };
      return rings;
    }
    return edited.rings;
  }

  private keep({ studio, size }: Scene): void {
    const { edited } = this;
    if (edited === null) return;
    edited.mask = filled(size, edited.rings);
    void studio.replace(edited.object, edited.mask);
  }

  finish(scene: Scene): boolean {
    const { studio, size } = scene;
    const corners = this.corners.peek();
    if (corners.length === 0) return false;
    this.corners.value = [];
    scene.redraw();
    const mask = filled(size, [corners]);
    if (mask.box.width > 0) {
      void studio.add([{ ...NEW, mask, class: studio.settings.activeClass.peek() }]);
    }
    return true;
  }

  undo(scene: Scene): boolean {
    const corners = this.corners.peek();
    this.corners.value = corners.slice(0, -1);
    scene.redraw();
    return corners.length > 0;
  }

  cancel(scene: Scene): boolean {
    const wasBusy = this.corners.peek().length > 0 || this.grabbed !== null;
    this.corners.value = [];
    this.grabbed = null;
    this.edited = null;
    scene.redraw();
    return wasBusy;
  }

  draw(scene: Scene, context: CanvasRenderingContext2D): void {
    const { scale } = scene.view;
    const rings = this.rings(scene);
    context.lineWidth = 1.5 / scale;
    context.strokeStyle = "#fff";
    if (rings !== null) context.stroke(joined(rings));
    const corners = this.corners.peek();
    const open = this.at === null ? corners : [...corners, this.at];
    if (corners.length > 0) {
      context.beginPath();
      open.forEach(([x, y], i) => {
        if (i === 0) context.moveTo(x, y);
        else context.lineTo(x, y);
      });
      context.stroke();
    }
    for (const [x, y] of [...(rings ?? []), corners].flat()) {
      const half = 3.5 / scale;
      context.fillStyle = "#fff";
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
      context.strokeStyle = "#1664d9";
      context.strokeRect(x - half, y - half, 2 * half, 2 * half);
    }
  }
}

interface Met {
  readonly ring: number;
  /** The corner, or the place that a new one between two takes. */
  readonly corner: number;
  readonly isCorner: boolean;
  readonly away: number;
}

/** The corner that is met, or else the edge, where a pixel of the picture covers `scale` of the screen. */
function nearest(rings: readonly (readonly Point[])[], at: Point, scale: number): Met | null {
  const corners: Met[] = [];
  const edges: Met[] = [];
  rings.forEach((ring, r) => {
    ring.forEach((corner, i) => {
      const next = ring[(i + 1) % ring.length] ?? corner;
      corners.push({ ring: r, corner: i, isCorner: true, away: distance(at, corner, corner) });
      edges.push({ ring: r, corner: i + 1, isCorner: false, away: distance(at, corner, next) });
    });
  });
  for (const [all, within] of [
    [corners, NEAR],
    [edges, NEAR_EDGE],
  ] as const) {
    const [met] = all.filter(({ away }) => away * scale <= within).sort((a, b) => a.away - b.away);
    if (met !== undefined) return met;
  }
  return null;
}
