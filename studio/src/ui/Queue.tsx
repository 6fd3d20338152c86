/** The pictures: which are done, which are ready, which is open. */

import { useEffect, useRef, useState } from "preact/hooks";

import type { Picture } from "../core/api";
import { counted } from "../core/words";
import type { Show } from "../state/queue";
import { Button } from "./Button";
import { useStudio } from "./context";

const SHOWS: readonly (readonly [Show, string])[] = [
  ["all", "All"],
  ["unchecked", "Not checked"],
  ["checked", "Checked"],
  ["empty", "Without objects"],
  ["low", "Low predicted IoU"],
  ["suspect", "Suspect masks"],
  ["problems", "Gone or changed"],
];

export function Queue() {
  const studio = useStudio();
  const { queue } = studio;
  const shown = queue.shown.value;
  const isChecked = studio.open.value?.picture.checked === true;
  return (
    <nav class="queue" aria-label="Pictures">
      <div class="queue-head">
        <div class="row">
          <Button icon="before" label="Picture before" shortcut="," onClick={() => void studio.go(-1)} />
          <output class="done" aria-label="Checked pictures">
            {queue.checked.value} / {queue.pictures.value.length} checked
          </output>
          <Button icon="next" label="Next picture" shortcut="." onClick={() => void studio.go(1)} />
        </div>
        <Button icon="keep" label="Checked, next" shortcut="C" showsLabel onClick={() => void studio.checkAndGoOn()} />
        <label class="check" title="Shift+C">
          <input
            type="checkbox"
            checked={isChecked}
            disabled={studio.open.value === null}
            onChange={() => void studio.check(!isChecked)}
          />
          This one is checked
        </label>
        <input
          type="search"
          aria-label="Search pictures"
          placeholder="search"
          value={queue.search.value}
          onInput={({ currentTarget }) => {
            queue.search.value = currentTarget.value;
          }}
        />
        <div class="fields">
          <select
            aria-label="Which pictures"
            value={queue.show.value}
            onChange={({ currentTarget }) => {
              queue.show.value = SHOWS.find(([name]) => name === currentTarget.value)?.[0] ?? "all";
            }}
          >
            {SHOWS.map(([name, title]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
          <select
            aria-label="Of which class"
            value={queue.kind.value ?? ""}
            onChange={({ currentTarget }) => {
              queue.kind.value = currentTarget.value === "" ? null : Number(currentTarget.value);
            }}
          >
            <option value="">Any class</option>
            {studio.classes.value.map(({ id, name }) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        </div>
      </div>
      {queue.show.value === "suspect" && <Assess />}
      <ul class="pictures">
        {shown.map((picture) => (
          <Item key={picture.id} picture={picture} />
        ))}
        {shown.length === 0 && <li class="hint">{emptyOf(queue.show.value, queue.quality.value.size)}</li>}
      </ul>
    </nav>
  );
}

/** Why no picture is shown. */
function emptyOf(show: Show, assessed: number): string {
  if (show !== "suspect") return "No pictures here.";
  return assessed === 0 ? "No masks were assessed yet." : "No suspects among what was assessed.";
}

/** The model looks at all masks that are there. */
function Assess() {
  const { assessment } = useStudio();
  const now = assessment.progress.value;
  return (
    <div class="queue-head">
      {now === null ? (
        <button type="button" class="button" onClick={() => void assessment.makeAll()}>
          Assess all masks
        </button>
      ) : (
        <div class="row">
          <progress aria-label="Assessing masks" value={now.done} max={now.all} />
          <Button icon="cancel" label="Stop assessing" onClick={() => { assessment.stop(); }} />
        </div>
      )}
    </div>
  );
}

function stateOf(picture: Picture, isReady: boolean): string {
  if (picture.is_gone) return "the file is gone";
  if (picture.is_changed) return "the file has changed";
  if (picture.checked) return "checked";
  return isReady ? "ready" : "";
}

function masksOf({ objects, is_gone }: Picture): string {
  if (objects === 0) return "";
  return is_gone ? counted(objects, "object") : `${objects}`;
}

function Item({ picture }: { readonly picture: Picture }) {
  const studio = useStudio();
  const element = useRef<HTMLLIElement>(null);
  const isOpen = studio.openInQueue() === picture.id;
  const embedding = picture.sha256 === null ? undefined : studio.ahead.embeddings.value.get(picture.sha256);
  useEffect(() => {
    if (isOpen) element.current?.scrollIntoView({ block: "nearest" });
  }, [isOpen]);
  const isBeingRead = embedding === "running" || embedding === "queued";
  const state = studio.failed.value === picture.id ? "cannot be read" : stateOf(picture, embedding === "ready");
  return (
    <li ref={element}>
      <button
        type="button"
        class="picture"
        aria-current={isOpen ? "true" : undefined}
        onClick={() => void studio.show(picture.id)}
      >
        <Preview picture={picture} />
        <span class="path">
          {picture.frames !== null && "▶ "}
          {picture.path}
        </span>
        <span class="state" data-embedding={picture.is_gone ? "missing" : (embedding ?? "missing")} data-checked={picture.checked}>
          {[masksOf(picture), isBeingRead ? "being read" : state].filter((text) => text !== "").join(" · ")}
        </span>
      </button>
    </li>
  );
}

/** Loads when it comes into sight. */
function Preview({ picture }: { readonly picture: Picture }) {
  const studio = useStudio();
  const box = useRef<HTMLSpanElement>(null);
  const [url, setUrl] = useState<string | null>(null);
  const { id, sha256, is_gone } = picture;
  useEffect(() => {
    const element = box.current;
    if (element === null || is_gone) return;
    const loading = new AbortController();
    let made: string | null = null;
    const load = async (): Promise<void> => {
      const blob = await studio.api.thumbnail(id, loading.signal);
      if (loading.signal.aborted) return;
      made = URL.createObjectURL(blob);
      setUrl(made);
    };
    const observer = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting !== true) return;
      observer.disconnect();
      // A picture that cannot be read says so when it is opened.
      load().catch(() => undefined);
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      loading.abort();
      if (made !== null) URL.revokeObjectURL(made);
    };
  }, [studio, id, sha256, is_gone]);
  return (
    <span class="thumbnail" ref={box}>
      {url !== null && <img src={url} alt="" />}
    </span>
  );
}
