/** The colour of a class. */

export function Swatch({ colour }: { readonly colour: string }) {
  return (
    <svg class="swatch" viewBox="0 0 12 12" aria-hidden="true">
      <rect width="12" height="12" rx="3" fill={colour} />
    </svg>
  );
}
