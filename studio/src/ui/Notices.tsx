/** What is told: over the canvas, or in the dialog that covers it. */

import { useState } from "preact/hooks";

import { counted } from "../core/words";
import { useStudio } from "./context";

export function Notices() {
  const studio = useStudio();
  const message = studio.message.value;
  const open = studio.open.value;
  // Of which picture somebody has read that its file has changed.
  const [known, setKnown] = useState<number | null>(null);
  return (
    <div class="notices">
      {!studio.isReachable.value && (
        <p class="notice error" role="alert">
          The server does not answer. What was saved is safe; what is done meanwhile waits here, in this window, until it
          answers.
        </p>
      )}
      {open?.isMissing === true && (
        <p class="notice error" role="alert">
          The file {open.picture.path} is gone. What is drawn on it is kept ({counted(open.objects.length, "object")}) and
          shown without it. When it is back, open the picture again.
        </p>
      )}
      {open?.picture.is_changed === true && known !== open.picture.id && (
        <p class="notice error">
          <span>The file is another one than that on which the masks were drawn.</span>
          <button type="button" class="link" onClick={() => { setKnown(open.picture.id); }}>
            Close
          </button>
        </p>
      )}
      {message !== null && (
        <p class={`notice ${message.kind}`} role={message.kind === "error" ? "alert" : "status"}>
          <span>{message.text}</span>
          <button type="button" class="link" onClick={() => { studio.message.value = null; }}>
            Close
          </button>
        </p>
      )}
    </div>
  );
}
