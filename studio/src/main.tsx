import { render } from "preact";

import { Api } from "./core/api";
import { Studio } from "./state/studio";
import { watch } from "./state/watch";
import { App } from "./ui/App";
import "./style.css";

/** A token comes behind `#token=` in the address, and stays in this tab alone. */
function token(): string | undefined {
  const key = "samara-studio/token";
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    sessionStorage.setItem(key, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(key) ?? undefined;
}

const root = document.getElementById("app");
if (root !== null) {
  const studio = new Studio(new Api("", token()));
  render(<App studio={studio} />, root);
  void studio.start();
  void watch(studio, new AbortController().signal);
}
