import { render } from "preact";

import { Api } from "./core/api";
import { follow, pictureOf } from "./state/session";
import { Studio } from "./state/studio";
import { token } from "./state/token";
import { watch } from "./state/watch";
import { App } from "./ui/App";
import "./style.css";

const root = document.getElementById("app");
if (root !== null) {
  const studio = new Studio(new Api("", token()));
  render(<App studio={studio} />, root);
  void studio.start(pictureOf(location.hash));
  follow(studio);
  window.addEventListener("beforeunload", (event) => {
    if (studio.saving.count.peek() > 0) event.preventDefault();
  });
  void watch(studio, new AbortController().signal);
}
