/** Windows over the page. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { BINDINGS } from "./keys";
import { Notices } from "./Notices";
import type { Imported } from "../core/api";
import { counted, freeName } from "../core/words";
import { giveToken, token } from "../state/token";
import { useStudio } from "./context";

export function Dialog({ title, onClose, children }: {
  readonly title: string;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    // With nothing to be filled in it is read from its beginning on: the button that closes it is at the end.
    if (dialog?.querySelector("input, select") !== null) return;
    dialog.focus();
    dialog.scrollTop = 0;
  }, []);
  return (
    <dialog ref={element} aria-label={title} tabIndex={-1} onClose={onClose}>
      <h2>{title}</h2>
      <Notices />
      {children}
      <form method="dialog">
        <button type="submit" class="button">
          Close
        </button>
      </form>
    </dialog>
  );
}

const NAMES: Readonly<Record<string, string>> = {
  " ": "Space",
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
};

function shown(key: string): string {
  const parts = key.split(/\+(?!$)/);
  return parts.map((part) => NAMES[part] ?? part.replace("Digit", "")).join("+");
}

export function Help({ onClose }: { readonly onClose: () => void }) {
  const groups = [...new Set(BINDINGS.map(({ group }) => group))];
  return (
    <Dialog title="Help" onClose={onClose}>
      <p>
        Click on something: the model answers with three masks, the whole, a part and a subpart of it. Take the one you
        mean with <kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> or the wheel, correct it with further clicks (right click: not
        this), and keep it with <kbd>Enter</kbd>. Everything that is kept is saved at once, and can be undone.
      </p>
      <p>
        The wheel zooms at the pointer while nothing is being made; with <kbd>Ctrl</kbd> it always does. The middle
        button moves the picture. A click on a click takes it back. Boxes that are dragged with <kbd>Shift</kbd> are
        masked and kept at once, one after the other.
      </p>
      <div class="help">
        {groups.map((group) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {uniqueOf(group).map(([what, keys]) => (
                <div key={what}>
                  <dt>
                    {keys.map((key) => (
                      <kbd key={key}>{shown(key)}</kbd>
                    ))}
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

/** Keys that do the same together; of a row of them the first and the last. */
function uniqueOf(group: string): readonly (readonly [string, readonly string[]])[] {
  const keys = new Map<string, string[]>();
  for (const binding of BINDINGS.filter((binding) => binding.group === group)) {
    keys.set(binding.what, [...(keys.get(binding.what) ?? []), ...binding.keys]);
  }
  return [...keys].map(([what, all]) => [what, all.length > 4 ? [all[0] ?? "", "…", all[all.length - 1] ?? ""] : all]);
}

export function ExportDialog({ onClose }: { readonly onClose: () => void }) {
  const studio = useStudio();
  const { project, exchange: { exported: taken } } = studio;
  const formats = project.value?.formats ?? [];
  const [typed, setTyped] = useState<string | null>(null);
  const [chosen, setFormat] = useState<string | null>(null);
  const shown = formats.find(({ name }) => name === chosen) ?? formats[0];
  const [told, setTold] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const start = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const [format, folder] = [fields.get("format"), fields.get("folder")];
    if (typeof format !== "string" || typeof folder !== "string") return;
    setBusy(true);
    setTold(null);
    studio.message.value = null;
    void studio
      .attempt(() => studio.exchange.export(format, folder.trim(), fields.get("checked") !== null, fields.get("split") !== null))
      .then((exported) => {
        setBusy(false);
        // Another name is offered where this one is taken.
        setTyped((before) => (exported === undefined && before !== null ? freeName(before, taken.peek()) : null));
        if (exported === undefined) return;
        setTold([`${counted(exported.objects, "object")} of ${counted(exported.pictures, "picture")} in ${exported.path}`, ...exported.warnings].join("\n"));
      });
  };
  return (
    <Dialog title="Export" onClose={onClose}>
      <form onSubmit={start} class="fields">
        <label>
          Format
          <select name="format" onChange={({ currentTarget }) => { setFormat(currentTarget.value); }}>
            {formats.map(({ name, title }) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <p class="hint">{shown?.description}</p>
        <label>
          New folder beside that of the pictures
          <input
            name="folder"
            required
            value={typed ?? freeName(`${project.value?.name ?? "masks"}-${shown?.name ?? "export"}`, taken.value)}
            onInput={({ currentTarget }) => {
              setTyped(currentTarget.value);
            }}
          />
        </label>
        <label class="check">
          <input type="checkbox" name="checked" /> Checked pictures only
        </label>
        <label class="check">
          <input type="checkbox" name="split" disabled={shown?.splits !== true} /> A fifth for validation: splits train and val
        </label>
        <button type="submit" class="button main" disabled={isBusy || formats.length === 0}>
          {isBusy ? "Exporting…" : "Export"}
        </button>
      </form>
      <output class="told">{told}</output>
    </Dialog>
  );
}

export function ImportDialog({ onClose }: { readonly onClose: () => void }) {
  const studio = useStudio();
  const [told, setTold] = useState<string | null>(null);
  const [imported, setImported] = useState<Imported | null>(null);
  const [isBusy, setBusy] = useState(false);
  const start = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const [file, path] = [fields.get("file"), fields.get("path")];
    const isFile = file instanceof File && file.size > 0;
    const from = isFile ? file : typeof path === "string" ? path.trim() : "";
    if (from === "") {
      setTold("Choose a file, or name one.");
      return;
    }
    setBusy(true);
    setTold(null);
    setImported(null);
    studio.message.value = null;
    void studio
      .attempt(() => studio.api.import(from))
      .then((imported) => {
        setBusy(false);
        if (imported !== undefined) {
          setTold([`${counted(imported.objects, "object")} on ${counted(imported.pictures, "picture")}`, ...imported.warnings].join("\n"));
          setImported(imported);
        }
        void studio.reload();
      });
  };
  const takeBack = (): void => {
    if (imported === null) return;
    setBusy(true);
    void studio.exchange.takeBack(imported).then((told) => {
      setBusy(false);
      setImported(null);
      setTold(told);
    });
  };
  return (
    <Dialog title="Import" onClose={onClose}>
      <p>
        Annotations of these pictures: COCO, labelme, YOLO or label maps. What a file is, is told by its content. The
        import can be taken back as a whole, and undone picture by picture.
      </p>
      <form onSubmit={start} class="fields">
        <label>
          A file
          <input type="file" name="file" accept=".json" />
        </label>
        <label>
          Or a file or folder that lies with the pictures, or a folder beside theirs, as an export
          <input name="path" placeholder="annotations.json" />
        </label>
        <button type="submit" class="button main" disabled={isBusy}>
          {isBusy ? "Importing…" : "Import"}
        </button>
      </form>
      <output class="told">{told}</output>
      {imported !== null && imported.objects > 0 && (
        <p class="row">
          {imported.boxes > 0 && (
            <button type="button" class="button main" onClick={() => { onClose(); void studio.boxes.makeAll(); }}>
              Make masks from {counted(imported.boxes, "box", "boxes")}
            </button>
          )}
          <button type="button" class="button" disabled={isBusy} onClick={takeBack}>
            Take the import back
          </button>
        </p>
      )}
    </Dialog>
  );
}

/** Asks who draws. */
export function TokenDialog() {
  const studio = useStudio();
  const start = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const given = new FormData(event.currentTarget).get("token");
    if (typeof given === "string") giveToken(given.trim());
  };
  return (
    <Dialog title="Who are you?" onClose={() => { studio.needsToken.value = false; }}>
      <p>This studio is for several people: everybody has a token, by which is recorded who does what.</p>
      {token() !== undefined && <p class="suspect">The token that was given is not known here.</p>}
      <form onSubmit={start} class="fields">
        <label>
          Your token
          <input name="token" type="password" autocomplete="off" required />
        </label>
        <button type="submit" class="button main">
          Go on
        </button>
      </form>
    </Dialog>
  );
}
