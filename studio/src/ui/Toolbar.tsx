/** Tools, steps, and how the picture is shown. */

import type { Stage } from "../canvas/stage";
import { themeAfter, type ToolName } from "../state/settings";
import { Button } from "./Button";
import type { IconName } from "./Icon";
import { useStudio } from "./context";

const TOOLS: readonly { readonly name: ToolName; readonly title: string; readonly key: string }[] = [
  { name: "segment", title: "Segment: click, or drag a box", key: "S" },
  { name: "select", title: "Select", key: "V" },
  { name: "brush", title: "Brush", key: "B" },
  { name: "eraser", title: "Eraser", key: "E" },
  { name: "polygon", title: "Polygon", key: "P" },
  { name: "hand", title: "Hand", key: "H" },
];

export function Toolbar({ stage, onDialog }: {
  readonly stage: () => Stage | null;
  readonly onDialog: (name: "help" | "export" | "import" | "finetune") => void;
}) {
  const studio = useStudio();
  const { settings, prompting, everything } = studio;
  const open = studio.open.value;
  return (
    <header class="bar">
      <h1 title={studio.project.value?.folder ?? ""}>
        <img src="./icon.svg" alt="" width="22" height="22" />
        {studio.project.value?.name ?? "Samara Studio"}
      </h1>
      <div role="toolbar" aria-label="Tools" class="group">
        {TOOLS.map(({ name, title, key }) => (
          <Button
            key={name}
            icon={name as IconName}
            label={title}
            shortcut={key}
            pressed={settings.tool.value === name}
            onClick={() => {
              settings.tool.value = name;
            }}
          />
        ))}
        <Button
          icon="pick"
          label={everything.progress.value === null ? "Find everything" : "Stop"}
          shortcut="A"
          pressed={everything.isShown.value}
          disabled={open === null}
          onClick={() => {
            if (everything.progress.value !== null || everything.isShown.value) everything.clear();
            else void everything.find();
          }}
        />
      </div>
      <div role="group" aria-label="Steps" class="group">
        <Button
          icon="undo"
          label="Undo"
          shortcut="Ctrl+Z"
          disabled={!prompting.canUndo.value && open?.can_undo !== true}
          onClick={() => {
            if (stage()?.undo() !== true) void studio.undo();
          }}
        />
        <Button
          icon="redo"
          label="Redo"
          shortcut="Ctrl+Shift+Z"
          disabled={!prompting.canRedo.value && open?.can_redo !== true}
          onClick={() => void studio.redo()}
        />
      </div>
      <div role="group" aria-label="View" class="group">
        <Button icon="fit" label="Show the whole picture" shortcut="F" onClick={() => stage()?.fit()} />
        <Slider label="Opacity" min={0} max={1} step={0.05} value={settings.opacity} />
        {(settings.tool.value === "brush" || settings.tool.value === "eraser") && (
          <Slider label="Brush" min={1} max={100} step={1} value={settings.brush} />
        )}
        {settings.tool.value === "polygon" && (
          <Slider label="Fineness" min={0} max={10} step={0.5} value={settings.fineness} />
        )}
        <Stretch stage={stage} />
      </div>
      <div role="group" aria-label="Project" class="group end">
        <label class="check">
          <input
            type="checkbox"
            checked={settings.isPreviewing.value}
            onChange={({ currentTarget }) => {
              settings.isPreviewing.value = currentTarget.checked;
            }}
          />
          Preview
        </label>
        <Button icon="import" label="Import" showsLabel onClick={() => { onDialog("import"); }} />
        <Button icon="export" label="Export" showsLabel onClick={() => { onDialog("export"); }} />
        <Button icon="learn" label="Fine-tune" pressed={studio.training.isAtWork.value} onClick={() => { onDialog("finetune"); }} />
        <Button
          icon="theme"
          label={`Theme: ${settings.theme.value}`}
          onClick={() => {
            settings.theme.value = themeAfter(settings.theme.value, matchMedia("(prefers-color-scheme: dark)").matches);
          }}
        />
        <Button icon="help" label="Help" shortcut="?" onClick={() => { onDialog("help"); }} />
      </div>
    </header>
  );
}

function Slider({ label, min, max, step, value }: {
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly value: { value: number };
}) {
  return (
    <label class="slider">
      {label}
      <input
        type="range"
        min={min}
        max={max}
        step={step}
        value={value.value}
        onInput={({ currentTarget }) => {
          value.value = currentTarget.valueAsNumber;
        }}
      />
    </label>
  );
}

/** Which values of a 16-bit picture are black and white. */
function Stretch({ stage }: { readonly stage: () => Stage | null }) {
  const depth = useStudio().open.value?.depth ?? null;
  if (depth === null) return null;
  const [low, high] = stage()?.stretch.value ?? [depth.low, depth.high];
  const set = (from: number, to: number): void => {
    const held = stage();
    if (held !== null && from < to) held.stretch.value = [from, to];
  };
  return (
    <>
      <label class="slider">
        Black
        <input type="range" min={0} max={depth.max} value={low} onChange={({ currentTarget }) => { set(currentTarget.valueAsNumber, high); }} />
      </label>
      <label class="slider">
        White
        <input type="range" min={0} max={depth.max} value={high} onChange={({ currentTarget }) => { set(low, currentTarget.valueAsNumber); }} />
      </label>
    </>
  );
}
