/** What was drawn on the picture, the topmost first. */

import type { StoredObject } from "../core/api";
import { isBox } from "../state/boxes";
import { LOW } from "../state/queue";
import { Button } from "./Button";
import { Swatch } from "./Swatch";
import { percent, useStudio } from "./context";

export function Objects() {
  const studio = useStudio();
  const objects = studio.objects.value;
  const count = studio.selection.value.length;
  return (
    <section class="panel grows" aria-labelledby="objects-title">
      <h2 id="objects-title">
        Objects <span class="count">{objects.length}</span>
      </h2>
      <div class="row">
        <Button icon="refine" label="Refine with clicks" shortcut="R" disabled={count !== 1} onClick={() => { refine(studio.selection.value[0]); }} />
        <Button icon="up" label="Raise" shortcut="Ctrl+]" disabled={count !== 1} onClick={() => void studio.lift(1)} />
        <Button icon="down" label="Lower" shortcut="Ctrl+[" disabled={count !== 1} onClick={() => void studio.lift(-1)} />
        <button type="button" class="button" title="Make one of the selected objects (U)" disabled={count < 2} onClick={() => void studio.combine("union")}>
          Union
        </button>
        <button type="button" class="button" title="Take the others from the lowest (X)" disabled={count < 2} onClick={() => void studio.combine("subtract")}>
          Subtract
        </button>
        <Button icon="bin" label="Delete" shortcut="Del" disabled={count === 0} onClick={() => void studio.remove()} />
      </div>
      {objects.length === 0 && <p class="hint">Nothing yet.</p>}
      <ul class="objects">
        {[...objects].reverse().map((object) => (
          <Row key={object.id} object={object} quality={studio.assessment.of(object)} />
        ))}
      </ul>
      <Attributes />
      <div class="row">
        <button type="button" class="button" disabled={objects.length === 0} onClick={() => void studio.assessment.make()} title="The model estimates how good every mask is">
          Assess the masks
        </button>
        <button type="button" class="button" disabled={objects.length === 0} onClick={() => void studio.clipboard.copyToNext()} title="Copy the selected objects, or all, to the next picture (N)">
          Copy to the next
        </button>
        <button type="button" class="button" disabled={studio.boxes.here.value.length === 0 || studio.boxes.progress.value !== null} onClick={() => void studio.boxes.make()} title="The model makes masks of the selected objects' boxes, or of all objects that are boxes (M)">
          Masks from boxes
        </button>
      </div>
      <MakingMasks />
    </section>
  );

  function refine(object: StoredObject | undefined): void {
    if (object !== undefined) studio.prompting.refine(object, object.mask);
  }
}

function Row({ object, quality }: { readonly object: StoredObject; readonly quality: number | undefined }) {
  const studio = useStudio();
  const { id, predicted_iou, author } = object;
  const isSelected = studio.selected.value.has(id);
  const isHidden = studio.hidden.value.has(id);
  const kind = studio.classOf(object)?.name;
  const name = object.track === null ? (kind ?? "no class") : `${kind ?? "object"} ${object.track.id}`;
  const toggle = (): void => {
    const hidden = new Set(studio.hidden.peek());
    if (!hidden.delete(id)) hidden.add(id);
    studio.hidden.value = hidden;
  };
  return (
    <li class={isSelected ? "object selected" : "object"}>
      <button
        type="button"
        class="object-name"
        aria-pressed={isSelected}
        title={`Drawn by ${author}`}
        onClick={(event) => {
          studio.select(id, event.ctrlKey || event.metaKey || event.shiftKey);
        }}
      >
        <Swatch colour={studio.colourOf(object)} />
        <span class="label" title={name}>
          {name}
        </span>
        {author !== studio.project.value?.author && <span class="score">{author}</span>}
        <span class="score">{isBox(object) ? "box" : predicted_iou === null ? "by hand" : `IoU ${percent(predicted_iou)}`}</span>
        {quality !== undefined && (
          <span class={quality < LOW ? "score suspect" : "score"}>quality {percent(quality)}</span>
        )}
      </button>
      <Button icon={isHidden ? "hidden" : "eye"} label={isHidden ? "Show" : "Hide"} pressed={isHidden} onClick={toggle} />
    </li>
  );
}

/** How far masks are made from boxes. */
function MakingMasks() {
  const { boxes } = useStudio();
  const now = boxes.progress.value;
  if (now === null) return null;
  return (
    <div class="row">
      <progress aria-label="Making masks from boxes" value={now.done} max={now.all} />
      <Button icon="cancel" label="Stop making masks" onClick={() => { boxes.stop(); }} />
    </div>
  );
}

/** Further words about the object that is selected. */
function Attributes() {
  const studio = useStudio();
  const [object, other] = studio.selection.value;
  if (object === undefined || other !== undefined) return null;
  const entries = Object.entries(object.attributes);
  const add = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const form = event.currentTarget;
    const fields = new FormData(form);
    const [name, value] = [fields.get("name"), fields.get("value")];
    if (typeof name !== "string" || typeof value !== "string" || name.trim() === "") return;
    void studio.setAttributes(object, { ...object.attributes, [name.trim()]: value.trim() });
    form.reset();
  };
  return (
    <details class="attributes" open={entries.length > 0}>
      <summary>Attributes</summary>
      <ul>
        {entries.map(([name, value]) => (
          <li key={name}>
            <span>
              {name}: {value}
            </span>
            <Button
              icon="cancel"
              label={`Remove ${name}`}
              onClick={() => void studio.setAttributes(object, Object.fromEntries(entries.filter(([other]) => other !== name)))}
            />
          </li>
        ))}
      </ul>
      <form onSubmit={add} class="row">
        <input name="name" aria-label="Name of the attribute" placeholder="name" required />
        <input name="value" aria-label="Value of the attribute" placeholder="value" />
        <button type="submit" class="button">
          Add
        </button>
      </form>
    </details>
  );
}
