/** What other windows do, and whether the server is there. */

import { Problem, type Class, type Picture } from "../core/api";
import type { TrainingInfo } from "../core/training";
import type { Studio } from "./studio";

/** Milliseconds before the server is tried again; more from time to time. */
const FIRST = 500;
const LAST = 5000;

/** Follows the server until the end of the page. */
export async function watch(studio: Studio, signal: AbortSignal): Promise<void> {
  let wait = FIRST;
  while (!signal.aborted) {
    try {
      for await (const { kind, data } of studio.api.events(signal)) {
        wait = FIRST;
        if (kind === "open") await isBack(studio);
        else if (kind === "picture") studio.changed(data as Picture);
        else if (kind === "classes") studio.classes.value = (data as { classes: Class[] }).classes;
        else if (kind === "training") studio.training.info.value = data as TrainingInfo;
        else if (kind === "pictures") await studio.reload();
      }
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        studio.needsToken.value = true;
        return;
      }
      // As at the end of a stream: it is tried again.
    }
    studio.isReachable.value = false;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(LAST, wait * 2);
  }
}

/** Reads what has happened while the server was not heard. */
async function isBack(studio: Studio): Promise<void> {
  if (studio.isReachable.peek()) return;
  studio.isReachable.value = true;
  studio.message.value = null;
  await studio.reload();
  // A server that was started anew does not know the open picture.
  await studio.refresh();
  studio.prompting.askAgain();
}
