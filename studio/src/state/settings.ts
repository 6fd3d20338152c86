/** What one person likes, kept in the browser. */

import { effect, signal, type Signal } from "@preact/signals";

export type ToolName = "segment" | "select" | "brush" | "eraser" | "polygon" | "pick" | "hand";
export type Theme = "system" | "light" | "dark";

/** The theme after this one: the first of a round looks other than the system's, so that a change is seen. */
export function themeAfter(theme: Theme, isSystemDark: boolean): Theme {
  const [same, other] = isSystemDark ? (["dark", "light"] as const) : (["light", "dark"] as const);
  if (theme === "system") return other;
  return theme === other ? same : "system";
}

/** A value that a later visit finds again. */
function kept<T>(name: string, first: T, makesSense: (value: unknown) => value is T): Signal<T> {
  const key = `samara-studio/${name}`;
  let value = first;
  try {
    const text = localStorage.getItem(key);
    const before: unknown = text === null ? first : JSON.parse(text);
    if (makesSense(before)) value = before;
  } catch {
    // A browser that keeps nothing, or something else under this name: as on the first visit.
  }
  const held = signal(value);
  effect(() => {
    try {
      localStorage.setItem(key, JSON.stringify(held.value));
    } catch {
      // As above.
    }
  });
  return held;
}

function between(least: number, most: number) {
  return (value: unknown): value is number => typeof value === "number" && value >= least && value <= most;
}

const isTheme = (value: unknown): value is Theme => value === "system" || value === "light" || value === "dark";
const isFlag = (value: unknown): value is boolean => typeof value === "boolean";

export class Settings {
  readonly tool = signal<ToolName>("segment");
  readonly theme = kept<Theme>("theme", "system", isTheme);
  /** Of the inside of masks, from 0 to 1. */
  readonly opacity = kept("opacity", 0.35, between(0, 1));
  /** In pixels of the screen, so that it is as large when one zooms in. */
  readonly brush = kept("brush", 12, between(1, 200));
  /** How far a polygon may leave the outline, in pixels of the picture. */
  readonly fineness = kept("fineness", 1.5, between(0, 20));
  readonly isPreviewing = kept("preview", true, isFlag);
  readonly activeClass = signal<number | null>(null);
}
