/** What the page asks of the server: the native API, as `/openapi.json` describes it. */

import { answersOf, type Answer, type WireAnswer } from "./answer";
import { lazily, type Told } from "./lazily";
import type { Mask } from "./mask";
import type { Prompt } from "./prompt";
import { encode, type Rle } from "./rle";
import type { Placed } from "./tracks";
import type { TrainingInfo, TrainingRequest } from "./training";

/** An error that the server has told: RFC 9457. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    detail: string,
    readonly field: string | undefined,
    /** Seconds after which it is worth to try again. */
    readonly retryAfter: number | undefined,
  ) {
    super(field === undefined ? detail : `${field}: ${detail}`);
  }
}

/** The server does not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer. Nothing is lost; it is tried again.");
  }
}

export interface ImageInfo {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly warnings: readonly string[];
}

export interface Class {
  readonly id: number;
  readonly name: string;
  readonly colour: string;
}

export interface Format {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly splits: boolean;
}

export interface ProjectInfo {
  readonly name: string;
  readonly folder: string;
  readonly author: string;
  readonly model: string;
  readonly classes: readonly Class[];
  readonly formats: readonly Format[];
}

export interface Picture {
  readonly id: number;
  readonly path: string;
  readonly sha256: string | null;
  readonly width: number;
  readonly height: number;
  readonly checked: boolean;
  readonly is_gone: boolean;
  readonly is_changed: boolean;
  readonly objects: number;
  readonly revision: number;
  readonly classes: readonly number[];
  readonly lowest_iou: number | null;
  /** Of a video: how many frames it has, 0 until it was opened. */
  readonly frames: number | null;
  /** Of a video: frames per second. */
  readonly rate: number | null;
  /** Of a frame: its video, and which it is, from 0. */
  readonly video: number | null;
  readonly frame: number | null;
}

/** What is said of an object that is drawn. */
export interface NewObject {
  readonly mask: Mask;
  readonly class: number | null;
  readonly predicted_iou: number | null;
  readonly prompt: unknown;
  readonly attributes: Readonly<Record<string, string>>;
  /** In a frame of a video: of which of its objects the new mask is. */
  readonly lane?: number;
}

export interface StoredObject extends NewObject {
  readonly id: number;
  readonly position: number;
  readonly author: string;
  readonly track: { readonly id: number; readonly is_keyframe: boolean } | null;
}

export type Edit =
  | { readonly add: NewObject }
  | { readonly change: readonly [number, NewObject] }
  | { readonly move: readonly [number, number] }
  | { readonly remove: number }
  | { readonly remove_track: number }
  | { readonly check: boolean };

/** What a picture is after an edit. */
export interface Applied {
  /** Undoing in a frame may change others of the video: one of these. */
  readonly picture: number;
  readonly revision: number;
  readonly objects: readonly StoredObject[];
  readonly checked: boolean;
  readonly can_undo: boolean;
  /** Who has done what would be undone. */
  readonly last_author: string | null;
  readonly can_redo: boolean;
}

/** A picture with its objects, all at one moment. */
export interface Kept extends Omit<Applied, "picture" | "revision" | "checked"> {
  readonly picture: Picture;
}

export interface Opened extends Kept {
  readonly image: ImageInfo;
  /** How 16-bit values become grey; null for other pictures. */
  readonly depth: { readonly low: number; readonly high: number; readonly max: number } | null;
}

/** A video with its frames, which are pictures of their own. */
export interface OpenedVideo {
  readonly video: Picture;
  readonly frames: readonly number[];
  readonly placed: readonly Placed[];
}

export interface Model {
  readonly name: string;
}

export interface Exported {
  readonly path: string;
  readonly pictures: number;
  readonly objects: number;
  readonly warnings: readonly string[];
}

export interface Imported {
  readonly pictures: number;
  readonly objects: number;
  /** How many of them are rectangles, because nothing but a box was known. */
  readonly boxes: number;
  /** Which pictures have got objects, in this order, and the revisions that they have since. */
  readonly took: readonly { readonly picture: number; readonly revision: number }[];
  readonly warnings: readonly string[];
}

export type EmbeddingState = "queued" | "running" | "ready" | "failed" | "missing";

export interface Job {
  readonly id: string;
  readonly state: string;
  readonly progress: number;
  readonly error?: { readonly detail: string } | null;
}

/** A mask of everything that a picture shows. */
export interface Found {
  readonly mask: Mask;
  readonly predicted_iou: number;
}

/** Something that the server tells; the first is `open`, when it begins to listen. */
export interface ServerEvent {
  readonly kind: string;
  readonly data: unknown;
}

type WireApplied<T extends { readonly objects: readonly StoredObject[] }> = Omit<T, "objects"> & {
  readonly objects: readonly Told<StoredObject>[];
};

function applied<T extends { readonly objects: readonly StoredObject[] }>(told: WireApplied<T>): T {
  const objects = told.objects.map(({ mask, ...rest }) => lazily(rest, mask));
  return { ...told, objects } as unknown as T;
}

function wired(object: NewObject): Told<NewObject> {
  const { mask, class: kind, predicted_iou, prompt, attributes, lane } = object;
  const track = lane === undefined ? {} : { track: lane };
  return { mask: encode(mask), class: kind, predicted_iou, prompt, attributes, ...track };
}

function wireEdit(edit: Edit): unknown {
  if ("add" in edit) return { add: wired(edit.add) };
  if ("change" in edit) return { change: [edit.change[0], wired(edit.change[1])] };
  return edit;
}

export class Api {
  constructor(
    private readonly base: string,
    private readonly token?: string,
    private readonly call: typeof fetch = fetch.bind(globalThis),
  ) {}

  project(): Promise<ProjectInfo> {
    return this.get("/v1/project");
  }

  async pictures(): Promise<readonly Picture[]> {
    return (await this.get<{ pictures: Picture[] }>("/v1/project/pictures")).pictures;
  }

  scan(): Promise<{ readonly new: number; readonly gone: number; readonly written: number }> {
    return this.post("/v1/project/scan", {});
  }

  /** Reads a picture, at which somebody looks now or will (`isAhead`). */
  async open(picture: number, isAhead = false): Promise<Opened> {
    const path = `/v1/project/pictures/${picture}/open?ahead=${isAhead}`;
    return applied(await this.post<WireApplied<Opened>>(path, {}));
  }

  /** What is kept of a picture, also where its file is gone. */
  async kept(picture: number): Promise<Kept> {
    return applied(await this.get<WireApplied<Kept>>(`/v1/project/pictures/${picture}`));
  }

  openVideo(video: number): Promise<OpenedVideo> {
    return this.post(`/v1/project/videos/${video}/open`, {});
  }

  async tracks(video: number): Promise<readonly Placed[]> {
    return (await this.get<{ placed: Placed[] }>(`/v1/project/videos/${video}/tracks`)).placed;
  }

  /** Follows objects from frame to frame; `signal` ends it. */
  propagate(
    video: number,
    way: { readonly from: number; readonly to: number; readonly tracks?: readonly number[] },
    signal: AbortSignal,
  ): AsyncGenerator<ServerEvent> {
    return this.stream(`/v1/project/videos/${video}/propagate`, signal, way);
  }

  thumbnail(picture: number, signal?: AbortSignal): Promise<Blob> {
    return this.blob(`/v1/project/pictures/${picture}/thumbnail`, signal);
  }

  tile(
    picture: number,
    [level, x, y]: readonly [number, number, number],
    stretch: readonly [number, number] | null,
    signal?: AbortSignal,
  ): Promise<Blob> {
    const query = stretch === null ? "" : `?low=${stretch[0]}&high=${stretch[1]}`;
    return this.blob(`/v1/project/pictures/${picture}/tiles/${level}/${x}/${y}${query}`, signal);
  }

  async edit(picture: number, edits: readonly Edit[], expected: number): Promise<Applied> {
    const body = { edits: edits.map(wireEdit), expected };
    return applied(await this.post<WireApplied<Applied>>(`/v1/project/pictures/${picture}/edits`, body));
  }

  async step(picture: number, way: "undo" | "redo", expected: number): Promise<Applied> {
    return applied(await this.post<WireApplied<Applied>>(`/v1/project/pictures/${picture}/${way}`, { expected }));
  }

  addClass(name: string, colour: string): Promise<Class> {
    return this.post("/v1/project/classes", { name, colour });
  }

  changeClass({ id, name, colour }: Class): Promise<Class> {
    return this.post(`/v1/project/classes/${id}`, { name, colour });
  }

  async removeClass(id: number): Promise<void> {
    await this.send("DELETE", `/v1/project/classes/${id}`);
  }

  export(format: string, folder: string, checkedOnly: boolean, isSplit: boolean): Promise<Exported> {
    return this.post("/v1/project/export", { format, folder, checked_only: checkedOnly, validation: isSplit ? 0.2 : 0 });
  }

  training(): Promise<TrainingInfo> {
    return this.get("/v1/project/training");
  }

  startTraining(request: TrainingRequest): Promise<TrainingInfo> {
    return this.post("/v1/project/training", request);
  }

  async stopTraining(): Promise<TrainingInfo> {
    return (await (await this.send("DELETE", "/v1/project/training")).json()) as TrainingInfo;
  }

  /** The models that answer, or can be loaded. */
  async models(): Promise<readonly Model[]> {
    return (await this.get<{ models: Model[] }>("/v1/models")).models;
  }

  /** Loads a model that answers from now on. */
  async useModel(name: string): Promise<void> {
    await this.post("/v1/models", { name, default: true });
  }

  /** Annotations that lie in the folder of the pictures, or that are sent. */
  async import(from: string | File): Promise<Imported> {
    if (typeof from === "string") return this.post("/v1/project/import", { path: from });
    const path = `/v1/project/import?name=${encodeURIComponent(from.name)}`;
    return (await (await this.send("POST", path, from)).json()) as Imported;
  }

  /** Asks for the expensive part ahead, the most urgent first. */
  async embedAhead(ids: readonly string[]): Promise<ReadonlyMap<string, EmbeddingState>> {
    const images = ids.map((id) => ({ id }));
    interface Told {
      embeddings: { image: string | null; state: EmbeddingState }[];
    }
    const { embeddings } = await this.post<Told>("/v1/embeddings", { images });
    return new Map(embeddings.map(({ state }, i) => [ids[i] ?? "", state]));
  }

  /** The masks for a prompt; `signal` gives it up. */
  async predict(image: string, prompt: Prompt, isCloser = false, signal?: AbortSignal): Promise<Answer> {
    const [answer] = await this.predictAll(image, [prompt], signal, isCloser);
    if (answer === undefined) throw new Error("The server has not answered.");
    return answer;
  }

  /** The masks for several prompts, each of which is of another object. */
  async predictAll(
    image: string,
    prompts: readonly Prompt[],
    signal?: AbortSignal,
    isCloser = false,
  ): Promise<readonly Answer[]> {
    const zoom = isCloser ? { zoom: "auto" } : {};
    const body = { image: { id: image }, prompts, ...zoom };
    return answersOf(await this.post<WireAnswer>("/v1/predict", body, signal));
  }

  /** How good masks are that are there, from 0 to 1: the model's estimates of their IoU. */
  async quality(image: string, masks: readonly Mask[]): Promise<readonly number[]> {
    const body = { image: { id: image }, masks: masks.map(encode), refined: "none" };
    interface Told {
      masks: { estimate: number }[];
    }
    return (await this.post<Told>("/v1/quality", body)).masks.map(({ estimate }) => estimate);
  }

  everything(image: string, pointsPerSide: number): Promise<Job> {
    const body = { image: { id: image }, options: { points_per_side: pointsPerSide } };
    return this.post("/v1/everything", body);
  }

  follow(job: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
    return this.stream(`/v1/jobs/${job}/events`, signal);
  }

  async found(job: string): Promise<readonly Found[]> {
    interface Told {
      masks: { segmentation: Rle; predicted_iou: number }[];
    }
    const told = await this.get<Told>(`/v1/jobs/${job}/result`);
    return told.masks.map(({ segmentation, predicted_iou }) => lazily({ predicted_iou }, segmentation));
  }

  async cancel(job: string): Promise<void> {
    await this.send("DELETE", `/v1/jobs/${job}`);
  }

  events(signal: AbortSignal): AsyncGenerator<ServerEvent> {
    return this.stream("/v1/project/events", signal);
  }

  private async *stream(path: string, signal: AbortSignal, body?: unknown): AsyncGenerator<ServerEvent> {
    // Firefox lets a second window wait for the end of the first one's answer, which it could keep; this has none.
    const response = await this.send(body === undefined ? "GET" : "POST", path, body, signal, "no-store");
    const lines = response.body?.pipeThrough(new TextDecoderStream());
    if (lines === undefined) return;
    yield { kind: "open", data: null };
    let rest = "";
    for await (const text of lines as unknown as AsyncIterable<string>) {
      const blocks = (rest + text).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const event = eventOf(block);
        if (event !== undefined) yield event;
      }
    }
  }

  private async get<T>(path: string): Promise<T> {
    return (await (await this.send("GET", path)).json()) as T;
  }

  private async post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    return (await (await this.send("POST", path, body, signal)).json()) as T;
  }

  private async blob(path: string, signal?: AbortSignal): Promise<Blob> {
    return (await this.send("GET", path, undefined, signal)).blob();
  }

  private async send(
    method: string,
    path: string,
    body?: unknown,
    signal?: AbortSignal,
    cache: RequestCache = "default",
  ): Promise<Response> {
    const headers: Record<string, string> = {};
    const isFile = body instanceof Blob;
    if (body !== undefined) headers["content-type"] = isFile ? "application/octet-stream" : "application/json";
    if (this.token !== undefined) headers["authorization"] = `Bearer ${this.token}`;
    let response: Response;
    try {
      response = await this.call(this.base + path, {
        method,
        headers,
        cache,
        // A token that is wrong is told by the page, and not asked for by the browser.
        credentials: "omit",
        ...(body !== undefined && { body: isFile ? body : JSON.stringify(body) }),
        ...(signal && { signal }),
      });
    } catch (error) {
      if (signal?.aborted === true) throw error;
      throw new Unreachable();
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }
}

function eventOf(block: string): ServerEvent | undefined {
  let [kind, data] = ["", ""];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) kind = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5).trim();
  }
  return kind === "" || data === "" ? undefined : { kind, data: JSON.parse(data) as unknown };
}

async function problemOf(response: Response): Promise<Problem> {
  const told = (await response.json().catch(() => ({}))) as { detail?: string; field?: string };
  const after = Number(response.headers.get("retry-after"));
  const detail = told.detail ?? `the server answered with status ${response.status}`;
  return new Problem(response.status, detail, told.field, after > 0 ? after : undefined);
}
