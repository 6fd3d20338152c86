/** A fine-tune of the model on the masks of the project: started, followed, stopped, used. */

import { useEffect, useState } from "preact/hooks";

import { isAtWork, lineOf, nextName, timeOf, type Measured, type TrainingInfo, type TrainingState } from "../core/training";
import { counted } from "../core/words";
import { Dialog } from "./Dialogs";
import { percent, useStudio } from "./context";
import "./finetune.css";

const DOING: Readonly<Record<TrainingState, string>> = {
  idle: "",
  preparing: "Writing the data set",
  training: "Learning",
  ranking: "Fitting what ranks the three masks",
  measuring: "Comparing with the model as it was",
  done: "Done",
  stopped: "Stopped",
  failed: "It did not work",
};

const STEPS = 200;

export function FineTuneDialog({ onClose }: { readonly onClose: () => void }) {
  const { training } = useStudio();
  useEffect(() => void training.look(), [training]);
  const info = training.info.value;
  return (
    <Dialog title="Fine-tune" onClose={onClose}>
      <p>
        The model learns from the masks of this project: what it sees stays, what it makes of a click changes. That takes
        minutes, and the page can be used meanwhile.
      </p>
      <Answering />
      {info !== null && info.state !== "idle" && <Course info={info} />}
      {isAtWork(info) ? <Stop /> : <Start last={info} />}
    </Dialog>
  );
}

/** The model that answers, and the others that could. */
function Answering() {
  const { training, project } = useStudio();
  const models = training.models.value;
  if (models.length < 2) return null;
  return (
    <label class="fields">
      Model that answers, in all windows
      <select value={project.value?.model ?? ""} onChange={({ currentTarget }) => void training.use(currentTarget.value)}>
        {models.map(({ name }) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function Start({ last }: { readonly last: TrainingInfo | null }) {
  const studio = useStudio();
  const [told, setTold] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const pictures = studio.queue.pictures.value.filter(({ objects }) => objects > 0);
  const masks = pictures.reduce((sum, { objects }) => sum + objects, 0);
  const start = (event: SubmitEvent & { currentTarget: HTMLFormElement }): void => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    const [name, steps] = [fields.get("name"), Number(fields.get("steps"))];
    if (typeof name !== "string") return;
    setBusy(true);
    setTold(null);
    const request = { name: name.trim(), steps, checked_only: fields.get("checked") !== null };
    void studio.training.start(request).then((hasBegun) => {
      setBusy(false);
      if (!hasBegun) setTold(studio.message.peek()?.text ?? "It did not work.");
    });
  };
  const name = nextName(studio.project.value?.name ?? "model", last);
  return (
    <>
      <form onSubmit={start} class="fields">
        <label>
          Name of the model, and of a new folder beside that of the pictures
          <input key={name} name="name" required value={name} />
        </label>
        <label>
          Steps
          <input name="steps" type="number" required min={1} max={10_000} value={last?.state === "stopped" ? last.steps : STEPS} />
        </label>
        <label class="check">
          <input type="checkbox" name="checked" /> Checked pictures only
        </label>
        <p class="hint">
          {counted(masks, "mask")} on {counted(pictures.length, "picture")}; it takes 8 masks at least. Of five pictures or more a fifth is for validation.
        </p>
        <button type="submit" class="button main" disabled={isBusy}>
          {last?.state === "stopped" ? "Go on" : "Start"}
        </button>
      </form>
      <output class="told">{told}</output>
    </>
  );
}

function Stop() {
  const { training } = useStudio();
  const isStopping = training.info.value?.stopping === true;
  return (
    <p>
      <button type="button" class="button" disabled={isStopping} onClick={() => void training.stop()}>
        {isStopping ? "Stopping…" : "Stop"}
      </button>
    </p>
  );
}

/** What it does, or how it has ended. */
function Course({ info }: { readonly info: TrainingInfo }) {
  const { state, step, steps, now, seconds_left: left } = info;
  const goesOn = state === "stopped" ? ", the same name goes on there" : "";
  return (
    <section class="course" aria-label="Course of the fine-tune">
      <p role="status">
        <strong>{DOING[state]}</strong>: {info.name}, step {step} of {steps}
        {goesOn}
        {left !== null && `, ${timeOf(left)} left`}
      </p>
      {isAtWork(info) && <progress aria-label={DOING[state]} max={1} value={info.progress} />}
      {now !== null && (
        <>
          {info.curve.length > 1 && <Curve info={info} />}
          <dl class="numbers">
            <Figure name="Loss" value={now.loss.toFixed(2)} />
            <Figure name="IoU of the best mask" value={percent(now.oracle)} />
            <Figure name="of the one rated highest" value={percent(now.automatic)} />
          </dl>
        </>
      )}
      {state === "done" && <Result info={info} />}
      {info.error !== null && <p class="suspect">{info.error}</p>}
      {info.notes.length > 0 && <p class="hint told">{info.notes.join("\n")}</p>}
    </section>
  );
}

function Figure({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** The loss, from 0 to its largest value, and the IoU of the best mask, from 0 to 1. */
function Curve({ info: { curve } }: { readonly info: TrainingInfo }) {
  const losses = curve.map(({ loss }) => loss);
  const most = Math.max(...losses);
  const said = `Loss from ${losses[0]?.toFixed(2) ?? ""} to ${losses.at(-1)?.toFixed(2) ?? ""}, IoU of the best mask from ${percent(curve[0]?.oracle ?? null)} to ${percent(curve.at(-1)?.oracle ?? null)}`;
  return (
    <figure>
      <svg class="curve" viewBox="-2 -2 104 104" preserveAspectRatio="none" role="img" aria-label={said}>
        <polyline class="loss" points={lineOf(losses, [0, most])} />
        <polyline class="iou" points={lineOf(curve.map(({ oracle }) => oracle), [0, 1])} />
      </svg>
      <figcaption>
        <span class="loss">Loss</span>, <span class="iou">IoU of the best mask, dashed</span>
      </figcaption>
    </figure>
  );
}

function Result({ info: { name, checkpoint, before, after } }: { readonly info: TrainingInfo }) {
  const studio = useStudio();
  const { training } = studio;
  const model = studio.project.value?.model;
  if (name === null || checkpoint === null) return null;
  return (
    <>
      {before !== null && after !== null && <Comparison before={before} after={after} />}
      <p>
        The model is <code>{checkpoint}</code>; <code>samara studio {studio.project.value?.folder} --checkpoint {checkpoint}</code>{" "}
        begins with it.
      </p>
      <p class="row">
        {model !== name && (
          <button type="button" class="button main" onClick={() => void training.use(name)}>
            Use it here
          </button>
        )}
        {model === name && <span>It answers now.</span>}
      </p>
    </>
  );
}

/** What one click on an object gave, and gives. */
function Comparison({ before, after }: { readonly before: Measured; readonly after: Measured }) {
  const rows: readonly (readonly [string, keyof Measured])[] = [
    ["Proposed mask", "chosen"],
    ["Best of three", "best"],
  ];
  return (
    <table>
      <caption>Mean IoU after one click on {after.objects} objects of the pictures for validation</caption>
      <thead>
        <tr>
          <td />
          <th scope="col">Before</th>
          <th scope="col">After</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(([title, key]) => (
          <tr key={key}>
            <th scope="row">{title}</th>
            <td>{percent(before[key])}</td>
            <td>{percent(after[key])}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
