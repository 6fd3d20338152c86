/** How a picture lies on the screen: enlarged by `scale`, its upper left corner at `x`, `y`. */

export interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}

export type Point = readonly [number, number];

/** A pixel of the picture covers 64 of the screen at most. */
const LARGEST = 64;

export function toScreen(view: View, [x, y]: Point): Point {
  return [x * view.scale + view.x, y * view.scale + view.y];
}

export function toPicture(view: View, [x, y]: Point): Point {
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

/** The whole picture in the middle of the screen. */
export function fitted([width, height]: Point, [across, down]: Point): View {
  const scale = Math.min(across / width, down / height, LARGEST);
  return { scale, x: (across - width * scale) / 2, y: (down - height * scale) / 2 };
}

/** Enlarged by a factor; what is under the pointer stays there. */
export function zoomed(view: View, at: Point, factor: number, smallest: number): View {
  const scale = Math.min(LARGEST, Math.max(smallest, view.scale * factor));
  const [x, y] = toPicture(view, at);
  return { scale, x: at[0] - x * scale, y: at[1] - y * scale };
}

/** Moved, but not so far that nothing of the picture is seen. */
export function moved(view: View, [dx, dy]: Point, picture: Point, screen: Point): View {
  const held = (at: number, side: number, room: number): number => {
    const margin = Math.min(40, side);
    return Math.min(room - margin, Math.max(margin - side, at));
  };
  return {
    scale: view.scale,
    x: held(view.x + dx, picture[0] * view.scale, screen[0]),
    y: held(view.y + dy, picture[1] * view.scale, screen[1]),
  };
}
