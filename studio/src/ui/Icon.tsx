/** Icons, drawn on a grid of 24 by 24. */

const PATHS = {
  segment: "M12 2v5M12 17v5M2 12h5M17 12h5M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  select: "M5 3l14 8-6 2-2 6z",
  brush: "M4 20c4 0 5-2 5-4a3 3 0 0 0-6 0M10 14L20 3",
  eraser: "M3 17l9-11 8 7-6 7H7zM8 11l7 7",
  polygon: "M12 3l9 7-4 10H7L3 10z",
  pick: "M3 3h7v7H3zM14 3h7v7h-7zM3 14h7v7H3zM14 14h7v7h-7z",
  hand: "M8 13V6a1.5 1.5 0 0 1 3 0v5-7a1.5 1.5 0 0 1 3 0v7-5a1.5 1.5 0 0 1 3 0v9c0 4-3 6-6 6-4 0-5-3-7-7 1-1 3-1 4 1",
  undo: "M9 7H4V2M4 7c3-4 8-5 12-2s5 8 2 12-8 4-11 2",
  redo: "M15 7h5V2M20 7c-3-4-8-5-12-2s-5 8-2 12 8 4 11 2",
  keep: "M4 13l5 5L20 6",
  cancel: "M6 6l12 12M18 6L6 18",
  bin: "M4 6h16M9 6V3h6v3M6 6l1 15h10l1-15M10 10v7M14 10v7",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  hidden: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM4 20L20 4",
  up: "M12 20V5M6 11l6-6 6 6",
  down: "M12 4v15M6 13l6 6 6-6",
  export: "M12 15V3M7 8l5-5 5 5M4 15v6h16v-6",
  import: "M12 3v12M7 10l5 5 5-5M4 15v6h16v-6",
  help: "M9 9a3 3 0 1 1 4 3c-1 .5-1 1-1 2M12 18v.5M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  play: "M7 4l13 8-13 8z",
  pause: "M7 4v16M17 4v16",
  keyBefore: "M18 5l-7 7 7 7M6 5v14",
  keyNext: "M6 5l7 7-7 7M18 5v14",
  next: "M9 5l7 7-7 7",
  before: "M15 5l-7 7 7 7",
  zoom: "M10 4a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15 15l6 6M10 7v6M7 10h6",
  learn: "M3 20h18M3 4v16M6 9l4 5 4-3 6 6",
  refine: "M4 20l4-1L19 8l-3-3L5 16zM14 7l3 3",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
