/** The frames of a video, and its objects through them. */

import { timeOf, type Lane } from "../core/tracks";
import type { Studio } from "../state/studio";
import { Button } from "./Button";
import { Swatch } from "./Swatch";
import { percent, useStudio } from "./context";
import "./timeline.css";

const REACHES: readonly (readonly [number | null, string])[] = [
  [null, "to the end"],
  [10, "10 frames"],
  [25, "25 frames"],
  [50, "50 frames"],
  [200, "200 frames"],
];

export function Timeline() {
  const studio = useStudio();
  const { video } = studio;
  const open = video.open.value;
  const frame = video.frame.value;
  if (open === null || frame === null) return null;
  const last = open.frames.length - 1;
  const name = `Frame ${frame + 1} of ${last + 1}`;
  return (
    <section class="timeline" aria-label="Video">
      <div class="row">
        <Button icon="before" label="Frame before" shortcut="," disabled={frame === 0} onClick={() => void video.step(-1)} />
        <Button icon={video.isPlaying.value ? "pause" : "play"} label={video.isPlaying.value ? "Pause" : "Play"} shortcut="K" onClick={() => void video.play()} />
        <Button icon="next" label="Next frame" shortcut="." disabled={frame === last} onClick={() => void video.step(1)} />
        <input
          type="range"
          class="frames"
          aria-label="Frame"
          aria-valuetext={name}
          min={0}
          max={last}
          value={frame}
          onInput={({ currentTarget }) => void video.goTo(Number(currentTarget.value))}
        />
        <output class="time">
          {frame + 1} / {last + 1} <span>{timeOf(frame, open.picture.rate)}</span>
        </output>
      </div>
      <Follow />
      <ul class="lanes" aria-label="Objects of the video">
        {video.lanes.value.map((lane) => (
          <LaneRow key={lane.track} lane={lane} frame={frame} count={last + 1} />
        ))}
        {video.lanes.value.length === 0 && <li class="hint">Mask an object in a frame, then follow it through the others.</li>}
      </ul>
    </section>
  );
}

function Follow() {
  const { video, objects } = useStudio();
  const { propagation } = video;
  const now = propagation.value;
  if (now !== null) {
    const done = Math.abs(now.now - now.from) / Math.abs(now.to - now.from);
    return (
      <div class="row">
        <progress aria-label="Following objects" value={done} max={1} />
        <span role="status">
          frame {now.now + 1}, {percent(done)}
        </span>
        <Button icon="cancel" label="Stop" shortcut="Esc" showsLabel onClick={() => { video.stop(); }} />
      </div>
    );
  }
  const isEmpty = objects.value.length === 0;
  return (
    <div class="row">
      <Button icon="before" label="Follow back" shortcut="Shift+T" showsLabel disabled={isEmpty} onClick={() => void video.propagate(-1)} />
      <Button icon="next" label="Follow" shortcut="T" showsLabel disabled={isEmpty} onClick={() => void video.propagate(1)} />
      <select
        aria-label="How far"
        value={video.reach.value ?? ""}
        onChange={({ currentTarget }) => {
          video.reach.value = currentTarget.value === "" ? null : Number(currentTarget.value);
        }}
      >
        {REACHES.map(([reach, title]) => (
          <option key={title} value={reach ?? ""}>
            {title}
          </option>
        ))}
      </select>
      <Button icon="keyBefore" label="Keyframe before" shortcut="Shift+," onClick={() => void video.goToKeyframe(-1)} />
      <Button icon="keyNext" label="Next keyframe" shortcut="Shift+." onClick={() => void video.goToKeyframe(1)} />
      <NextObject />
    </div>
  );
}

/** To which object the next mask belongs. */
function NextObject() {
  const studio = useStudio();
  const { video } = studio;
  const track = video.track.value;
  const frame = video.frame.value;
  const lane = video.lanes.value.find((lane) => lane.track === track);
  if (lane === undefined || video.placed.value.some((place) => place.track === track && place.frame === frame)) return null;
  return <span class="hint">The next mask in this frame is of {nameOf(studio, lane)}.</span>;
}

function nameOf(studio: Studio, lane: Lane): string {
  return `${studio.classOf(lane)?.name ?? "object"} ${lane.track}`;
}

function LaneRow({ lane, frame, count }: { readonly lane: Lane; readonly frame: number; readonly count: number }) {
  const studio = useStudio();
  const { video } = studio;
  const { track, runs, keyframes } = lane;
  const isChosen = video.track.value === track;
  const name = nameOf(studio, lane);
  const colour = studio.colourOf(lane);
  const hidden = runs.filter(({ isHidden }) => isHidden);
  const title = `${name}: keyframes ${keyframes.map((key) => key + 1).join(", ")}${hidden.length > 0 ? "; hidden at times" : ""}`;
  return (
    <li class={isChosen ? "lane selected" : "lane"}>
      <button type="button" class="lane-name" aria-pressed={isChosen} title={title} onClick={() => { video.choose(isChosen ? null : track); }}>
        <Swatch colour={colour} />
        <span>{name}</span>
      </button>
      <svg
        class="strip"
        viewBox={`0 0 ${count} 10`}
        preserveAspectRatio="none"
        aria-hidden="true"
        onClick={(event) => {
          const { left, width } = event.currentTarget.getBoundingClientRect();
          void video.goTo(Math.floor(((event.clientX - left) / width) * count));
        }}
      >
        {runs.map(({ first, last, isHidden }) => (
          <rect key={first} class={isHidden ? "run occluded" : "run"} x={first} y={isHidden ? 4 : 1} width={last + 1 - first} height={isHidden ? 2 : 8} fill={colour} />
        ))}
        {keyframes.map((key) => (
          <rect key={key} class="keyframe" x={key} y={0} width={Math.max(1, count / 250)} height={10} />
        ))}
        <rect class="here" x={frame} y={0} width={Math.max(1, count / 400)} height={10} />
      </svg>
      <Button icon="bin" label={`Delete ${name} in all frames`} onClick={() => void video.removeTrack(track)} />
    </li>
  );
}
