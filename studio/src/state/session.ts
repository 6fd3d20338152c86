/** What a reload of the page finds again: the picture that is open, by the address, and the class that comes next. */

import { effect } from "@preact/signals";

import type { Studio } from "./studio";

/** The path of the picture that an address names behind `#`. */
export function pictureOf(hash: string): string | null {
  return new URLSearchParams(hash.slice(1)).get("picture");
}

export function hashOf(path: string): string {
  return `#picture=${encodeURIComponent(path)}`;
}

/** Text that this tab keeps. */
export function remembered(key: string): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    // A browser that keeps nothing.
    return null;
  }
}

export function remember(key: string, text: string | null): void {
  try {
    if (text === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, text);
  } catch {
    // As above.
  }
}

/** Writes both down from now on, and follows an address that is changed by hand. */
export function follow(studio: Studio): void {
  effect(() => {
    const path = studio.open.value?.picture.path;
    if (path !== undefined && pictureOf(location.hash) !== path) history.replaceState(null, "", hashOf(path));
  });
  effect(() => {
    const kind = studio.settings.activeClass.value;
    const key = classKey(studio);
    if (key !== null) remember(key, kind === null ? null : String(kind));
  });
  addEventListener("hashchange", () => {
    // A token is read when the page begins.
    if (new URLSearchParams(location.hash.slice(1)).has("token")) location.reload();
    const path = pictureOf(location.hash);
    if (path !== null) void studio.showNamed(path);
  });
}

/** The class that came next when the page was left, if there is still one. */
export function classBefore(studio: Studio): number | null {
  const key = classKey(studio);
  const text = key === null ? null : remembered(key);
  return studio.classes.peek().find(({ id }) => String(id) === text)?.id ?? null;
}

function classKey(studio: Studio): string | null {
  const project = studio.project.peek();
  return project === null ? null : `samara-studio/class/${project.folder}`;
}
