/** The three masks that answer a prompt, and why one of them is chosen. */

import { useEffect, useRef, useState } from "preact/hooks";

import { namesOf, type Answer, type Candidate } from "../core/answer";
import { around, NOTHING, type Box, type Mask } from "../core/mask";
import { drawMask } from "../canvas/paths";
import { Button } from "./Button";
import { percent, useStudio } from "./context";

const WIDTH = 84;
const HEIGHT = 64;

export function Candidates() {
  const studio = useStudio();
  const { prompting } = studio;
  const choice = prompting.choice.value;
  const draft = prompting.draft.value;
  const photo = usePhoto();
  const names = namesOf(choice?.answer.candidates ?? []);
  return (
    <section class="panel" aria-labelledby="candidates-title">
      <h2 id="candidates-title">{draft === null && choice !== null ? "Under the pointer" : "Candidates"}</h2>
      {choice === null && <p class="hint">{draft?.isWaiting === true ? "The mask is being made." : "None yet."}</p>}
      {choice !== null && (
        <>
          <div role="radiogroup" aria-labelledby="candidates-title" class="candidates">
            {choice.answer.candidates.map((candidate, i) => (
              <Thumbnail
                key={i}
                candidate={candidate}
                photo={photo}
                colour={studio.nextColour.value}
                frame={frameOf(choice.answer)}
                number={i + 1}
                name={names[i] ?? ""}
                isChosen={i === choice.chosen}
                onClick={() => {
                  prompting.choose(i);
                }}
              />
            ))}
          </div>
          <p class="reason">{reasonOf(choice.answer, names, choice.chosen)}</p>
          <Numbers candidate={choice.answer.candidates[choice.chosen]} />
        </>
      )}
      {studio.everything.isShown.value && (
        <div class="row">
          <Button icon="keep" label={`Pick all ${studio.everything.nodes.value.length}`} shortcut="Ctrl+A" showsLabel onClick={() => void studio.everything.pickAll()} />
        </div>
      )}
      {draft !== null && (
        <div class="row">
          <Button icon="keep" label="Keep" shortcut="Enter" showsLabel onClick={() => void prompting.keep()} />
          <Button icon="zoom" label="Look closer" shortcut="Z" onClick={() => { prompting.lookCloser(); }} />
          <Button icon="cancel" label="Give up" shortcut="Esc" showsLabel onClick={() => { prompting.giveUp(); }} />
        </div>
      )}
    </section>
  );
}

function reasonOf({ selected, reason }: Answer, names: readonly string[], chosen: number): string {
  const name = (i: number): string => names[i] ?? "";
  if (chosen === selected) return `${capital(name(chosen))}: ${reason}.`;
  return `${capital(name(chosen))}: your choice. The model proposes ${name(selected)}: ${reason}.`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function Numbers({ candidate }: { readonly candidate: Candidate | undefined }) {
  if (candidate === undefined) return null;
  const { predicted_iou, match_probability, stability_score } = candidate;
  return (
    <dl class="numbers">
      <div title="How well the mask outlines what it depicts, as the model estimates it (IoU)">
        <dt>Predicted IoU</dt>
        <dd>{percent(predicted_iou)}</dd>
      </div>
      <div title="How likely it is what you mean">
        <dt>Probability</dt>
        <dd>{percent(match_probability)}</dd>
      </div>
      <div title="How little the mask changes with the threshold">
        <dt>Stability</dt>
        <dd>{percent(stability_score)}</dd>
      </div>
    </dl>
  );
}

/** The open picture, small. */
function usePhoto(): ImageBitmap | null {
  const studio = useStudio();
  const [photo, setPhoto] = useState<ImageBitmap | null>(null);
  const id = studio.open.value?.picture.id;
  useEffect(() => {
    if (id === undefined) return;
    const loading = new AbortController();
    studio.api
      .thumbnail(id, loading.signal)
      .then(createImageBitmap)
      .then(setPhoto)
      // The masks are shown without it.
      .catch(() => undefined);
    return () => {
      loading.abort();
      setPhoto(null);
    };
  }, [studio, id]);
  return photo;
}

/** What is shown of the picture: all candidates, and what is around them. */
function frameOf({ candidates }: Answer): Box {
  const { x, y, width, height } = candidates.reduce((box, { mask }) => around(box, mask.box), NOTHING);
  const [across, down] = candidates[0]?.mask.size ?? [1, 1];
  const margin = 0.2 * Math.max(width, height, 0.15 * across);
  const [left, top] = [Math.max(0, x - margin), Math.max(0, y - margin)];
  const [right, bottom] = [Math.min(across, x + width + margin), Math.min(down, y + height + margin)];
  return { x: left, y: top, width: right - left, height: bottom - top };
}

function Thumbnail({ candidate, photo, colour, frame, number, name, isChosen, onClick }: {
  readonly candidate: Candidate;
  readonly photo: ImageBitmap | null;
  readonly colour: string;
  readonly frame: Box;
  readonly number: number;
  readonly name: string;
  readonly isChosen: boolean;
  readonly onClick: () => void;
}) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { mask } = candidate;
  useEffect(() => {
    const element = canvas.current;
    if (element === null) return;
    // After the picture, which is looked at first.
    const later = setTimeout(() => {
      drawThumbnail(element, mask, photo, colour, frame);
    });
    return () => {
      clearTimeout(later);
    };
  }, [mask, photo, colour, frame.x, frame.y, frame.width, frame.height]);
  return (
    <button
      type="button"
      role="radio"
      aria-checked={isChosen}
      class="candidate"
      title={`${name} (${number})`}
      onClick={onClick}
    >
      <canvas ref={canvas} width={2 * WIDTH} height={2 * HEIGHT} aria-hidden="true" />
      <span class="name">
        <kbd>{number}</kbd> {name}
      </span>
      <span class="score">IoU {percent(candidate.predicted_iou)}</span>
      <span class="score">p {percent(candidate.match_probability)}</span>
    </button>
  );
}

/** The mask over its part of the picture, which is dimmed. */
function drawThumbnail(
  canvas: HTMLCanvasElement,
  mask: Mask,
  photo: ImageBitmap | null,
  colour: string,
  frame: Box,
): void {
  const context = canvas.getContext("2d");
  if (context === null) return;
  const [width, height] = mask.size;
  const scale = Math.min(canvas.width / frame.width, canvas.height / frame.height);
  const [across, down] = [frame.width * scale, frame.height * scale];
  const [left, top] = [(canvas.width - across) / 2, (canvas.height - down) / 2];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.save();
  context.beginPath();
  context.rect(left, top, across, down);
  context.clip();
  context.setTransform(scale, 0, 0, scale, left - frame.x * scale, top - frame.y * scale);
  context.fillStyle = "#888";
  context.fillRect(0, 0, width, height);
  if (photo !== null) {
    context.globalAlpha = 0.8;
    context.drawImage(photo, 0, 0, width, height);
  }
  drawMask(context, mask, scale, { colour, opacity: 0.6, width: 1.5 });
  context.restore();
}
