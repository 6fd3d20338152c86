/** What the parts of the page share. */

import { createContext } from "preact";
import { useContext } from "preact/hooks";

import type { Studio } from "../state/studio";

export const StudioContext = createContext<Studio | null>(null);

export function useStudio(): Studio {
  const studio = useContext(StudioContext);
  if (studio === null) throw new Error("no studio around this part");
  return studio;
}

export function percent(value: number | null): string {
  return value === null ? "–" : `${Math.round(100 * value)} %`;
}
