/** The token by which the server knows who draws: it stays in this tab alone. */

const KEY = "samara-studio/token";

/** It comes behind `#token=` in the address, or was given before. */
export function token(): string | undefined {
  const fields = new URLSearchParams(location.hash.slice(1));
  const given = fields.get("token");
  if (given !== null) {
    sessionStorage.setItem(KEY, given);
    // The rest of the address stays.
    fields.delete("token");
    history.replaceState(null, "", `${location.pathname}#${fields.toString()}`);
  }
  return sessionStorage.getItem(KEY) ?? undefined;
}

/** Begins anew with another one. */
export function giveToken(given: string): void {
  sessionStorage.setItem(KEY, given);
  location.reload();
}
