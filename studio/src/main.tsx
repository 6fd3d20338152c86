import { render } from "preact";

import { Api } from "./core/api";
import { token } from "./state/token";
import { Studio } from "./state/studio";
import { watch } from "./state/watch";
import { App } from "./ui/App";
import "./style.css";

const root = document.getElementById("app");
if (root !== null) {
  const studio = new Studio(new Api("", token()));
  render(<App studio={studio} />, root);
  void studio.start();
  void watch(studio, new AbortController().signal);
}
