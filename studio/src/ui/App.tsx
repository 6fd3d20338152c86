/** The page. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";

import { namesOf } from "../core/answer";
import { counted } from "../core/words";
import { Stage } from "../canvas/stage";
import type { Studio } from "../state/studio";
import { maskOfImage } from "./image";
import { Candidates } from "./Candidates";
import { Classes } from "./Classes";
import { ExportDialog, Help, ImportDialog, TokenDialog } from "./Dialogs";
import { FineTuneDialog } from "./FineTune";
import { isWriting, pressed } from "./keys";
import { Notices } from "./Notices";
import { Objects } from "./Objects";
import { Queue } from "./Queue";
import { StudioContext, percent, useStudio } from "./context";
import { Timeline } from "./Timeline";
import { Toolbar } from "./Toolbar";

type DialogName = "help" | "export" | "import" | "finetune";

export function App({ studio }: { readonly studio: Studio }) {
  const [dialog, setDialog] = useState<DialogName | null>(null);
  const stage = useSignal<Stage | null>(null);
  useSignalEffect(() => {
    const theme = studio.settings.theme.value;
    document.documentElement.style.colorScheme = theme === "system" ? "light dark" : theme;
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const held = stage.peek();
      // A dialog has its own keys, also while nothing in it has the focus.
      if (held === null || event.isComposing || document.querySelector("dialog[open]") !== null) return;
      if (pressed(event, { studio, stage: held, openDialog: setDialog })) event.preventDefault();
    };
    const onPaste = (event: ClipboardEvent): void => {
      const file = event.clipboardData?.files[0];
      if (isWriting(event.target)) return;
      if (file?.type.startsWith("image/") === true) void refineImage(studio, file);
      else void studio.clipboard.paste();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("paste", onPaste);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("paste", onPaste);
    };
  }, [studio, stage]);
  const close = (): void => {
    setDialog(null);
  };
  const openDialog = (name: DialogName): void => {
    // What went wrong before has nothing to do with it.
    studio.message.value = null;
    setDialog(name);
  };
  return (
    <StudioContext.Provider value={studio}>
      <Toolbar stage={() => stage.value} onDialog={openDialog} />
      <Queue />
      <Canvas
        stage={stage.value}
        isCovered={dialog !== null || studio.needsToken.value}
        onStage={(made) => {
          stage.value = made;
        }}
      />
      <aside class="side" aria-label="Masks">
        <Candidates />
        <Objects />
        <Classes />
      </aside>
      {studio.needsToken.value && <TokenDialog />}
      {dialog === "help" && <Help onClose={close} />}
      {dialog === "export" && <ExportDialog onClose={close} />}
      {dialog === "import" && <ImportDialog onClose={close} />}
      {dialog === "finetune" && <FineTuneDialog onClose={close} />}
    </StudioContext.Provider>
  );
}

/** A mask of another program, to be corrected. */
async function refineImage(studio: Studio, file: Blob): Promise<void> {
  const open = studio.open.peek();
  if (open === null) return;
  const { width, height } = open.image;
  const mask = await studio.attempt(() => maskOfImage(file, [width, height]));
  if (mask !== undefined) studio.prompting.refine(null, mask);
}

function Canvas({ stage, isCovered, onStage }: {
  readonly stage: Stage | null;
  /** A dialog lies over it, which shows the notices. */
  readonly isCovered: boolean;
  readonly onStage: (stage: Stage | null) => void;
}) {
  const studio = useStudio();
  const canvas = useRef<HTMLCanvasElement>(null);
  const file = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (canvas.current === null) return;
    const made = new Stage(canvas.current, studio);
    onStage(made);
    return () => {
      onStage(null);
      made.close();
    };
    // The stage lives as long as the page.
  }, [studio]);
  const open = studio.open.value;
  return (
    <main class="stage">
      <canvas
        ref={canvas}
        class="canvas"
        tabIndex={0}
        // Screen readers hand all keys to it, as to a map.
        // eslint-disable-next-line jsx-a11y/no-interactive-element-to-noninteractive-role
        role="application"
        aria-describedby="hint"
        aria-roledescription="picture"
        aria-label={open === null ? "No picture is open" : `${open.picture.path}, ${open.image.width} by ${open.image.height} pixels. Arrow keys point at a place, space clicks.`}
      />
      {!isCovered && <Notices />}
      <p id="hint" class="tip" title={stage?.hint.value}>
        {stage?.hint.value}
      </p>
      <Timeline />
      <div class="status">
        <span>{open === null ? "" : `${open.picture.path} · ${open.image.width} × ${open.image.height}`}</span>
        <Embedding />
        <span class="spread" />
        <input
          ref={file}
          type="file"
          accept="image/png"
          class="away"
          aria-label="A mask to refine"
          tabIndex={-1}
          onChange={({ currentTarget }) => {
            const [first] = currentTarget.files ?? [];
            if (first !== undefined) void refineImage(studio, first);
            currentTarget.value = "";
          }}
        />
        <button type="button" class="link" disabled={open === null} onClick={() => file.current?.click()}>
          Refine a mask from a file
        </button>
        <Saved />
      </div>
      <Spoken />
    </main>
  );
}

function Saved() {
  const { saving, isReachable, project } = useStudio();
  const author = project.value?.author ?? "me";
  const text = saving.count.value === 0 ? "Saved" : isReachable.value ? "Saving…" : `Not saved yet: ${counted(saving.count.value, "change")}`;
  return <span>{author === "me" ? text : `${text} by ${author}`}</span>;
}

function Embedding() {
  const studio = useStudio();
  const id = studio.open.value?.image.id;
  const state = id === undefined ? undefined : studio.ahead.embeddings.value.get(id);
  const progress = studio.everything.progress.value;
  if (progress !== null) return <span role="status">Finding everything: {percent(progress)}</span>;
  if (id === undefined) return null;
  if (studio.open.value?.isMissing === true) return <span>The file is gone</span>;
  if (state === "ready") return <span class="ready">Ready</span>;
  return <span>{state === "failed" ? "The model cannot read this picture" : "The model reads the picture…"}</span>;
}

/** What is seen, for those who hear it. */
function Spoken() {
  const studio = useStudio();
  const { draft, choice } = studio.prompting;
  const candidate = draft.value === null ? undefined : choice.value?.answer.candidates[choice.value.chosen];
  const objects = studio.objects.value.length;
  const text =
    candidate === undefined
      ? counted(objects, "object")
      : `${namesOf(choice.value?.answer.candidates ?? [])[choice.value?.chosen ?? 0] ?? "mask"}, predicted IoU ${percent(candidate.predicted_iou)}, candidate ${(choice.value?.chosen ?? 0) + 1} of ${choice.value?.answer.candidates.length ?? 0}`;
  return (
    <div class="away" role="status" aria-live="polite">
      {text}
    </div>
  );
}
