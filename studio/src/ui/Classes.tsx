/** What objects are called. */

import { useState } from "preact/hooks";

import type { Class } from "../core/api";
import { Button } from "./Button";
import { Swatch } from "./Swatch";
import { useStudio } from "./context";

/** Colours that are told apart, also by those who see fewer. */
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#4f7df0", "#d55e00", "#cc79a7", "#8c564b", "#17becf", "#9edb4a"];

export function Classes() {
  const studio = useStudio();
  const [edited, setEdited] = useState<number | null>(null);
  const classes = studio.classes.value;
  const isChoosing = studio.prompting.choice.value !== null;
  const active = studio.settings.activeClass.value;
  const add = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const form = event.currentTarget;
    const name = new FormData(form).get("name");
    if (typeof name !== "string" || name.trim() === "") return;
    const used = new Set(classes.map(({ colour }) => colour));
    const colour = COLOURS.find((free) => !used.has(free)) ?? COLOURS[classes.length % COLOURS.length] ?? "#e69f00";
    void studio.addClass(name, colour);
    form.reset();
    // The next key is one of the canvas.
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  };
  return (
    <section class="panel" aria-labelledby="classes-title">
      <h2 id="classes-title">Classes</h2>
      <ul class="classes">
        {classes.length > 0 && (
          <li>
            <button type="button" class="class" aria-pressed={active === null} onClick={() => void studio.label(null)}>
              <kbd>0</kbd>
              <Swatch colour={studio.colourOf({ class: null })} />
              <span class="label">no class</span>
            </button>
          </li>
        )}
        {classes.map((kind, i) =>
          edited === kind.id ? (
            <Editor key={kind.id} kind={kind} onEnd={() => { setEdited(null); }} />
          ) : (
            <li key={kind.id}>
              <button
                type="button"
                class="class"
                aria-pressed={active === kind.id}
                onClick={() => void studio.label(kind.id)}
              >
                <kbd>{i > 8 ? " " : isChoosing ? `⇧${i + 1}` : i + 1}</kbd>
                <Swatch colour={kind.colour} />
                <span class="label" title={kind.name}>
                  {kind.name}
                </span>
              </button>
              <Button icon="refine" label={`Change ${kind.name}`} onClick={() => { setEdited(kind.id); }} />
            </li>
          ),
        )}
      </ul>
      <form class="row" onSubmit={add}>
        <input name="name" aria-label="Name of a new class" placeholder="new class" maxLength={100} />
        <button type="submit" class="button">
          Add
        </button>
      </form>
    </section>
  );
}

function Editor({ kind, onEnd }: { readonly kind: Class; readonly onEnd: () => void }) {
  const studio = useStudio();
  const keep = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const [name, colour] = [fields.get("name"), fields.get("colour")];
    if (typeof name === "string" && typeof colour === "string") void studio.changeClass({ ...kind, name: name.trim(), colour });
    onEnd();
  };
  return (
    <li>
      <form class="row" onSubmit={keep}>
        <input type="color" name="colour" aria-label="Colour" value={kind.colour} />
        <input name="name" aria-label="Name" value={kind.name} required maxLength={100} />
        <Button icon="bin" label={`Remove ${kind.name}`} onClick={() => { onEnd(); void studio.removeClass(kind.id); }} />
        <button type="submit" class="button">
          OK
        </button>
      </form>
    </li>
  );
}
