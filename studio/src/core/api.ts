/** What the page asks of the server: the native API, as `/openapi.json` describes it. */

import { decode, type Rle } from "./rle";
import type { Mask } from "./mask";

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

/** A click on an object (label 1) or beside it (0), in pixels of the picture. */
export type Click = readonly [x: number, y: number, label: 0 | 1];

export interface Prompt {
  readonly points?: readonly Click[];
  readonly box?: readonly [number, number, number, number];
  readonly mask?: { readonly answer: { readonly id: string; readonly candidate?: number } } | { readonly rle: Rle };
  readonly single?: boolean;
}

/** One of the masks that answer a prompt. */
export interface Candidate {
  readonly index: number | null;
  readonly predicted_iou: number | null;
  readonly match_probability: number | null;
  readonly expected_iou: number | null;
  readonly stability_score: number | null;
  readonly granularity: "whole" | "part" | "subpart" | null;
  readonly mask: Mask;
}

export interface Answer {
  /** By which a correction names it. */
  readonly id: string;
  readonly candidates: readonly Candidate[];
  readonly selected: number;
  readonly reason: string;
  readonly warnings: readonly string[];
}

export interface PictureInfo {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly warnings: readonly string[];
}

type Wire = Omit<Candidate, "mask"> & { readonly segmentation: Rle };

interface WireAnswer {
  readonly objects: readonly {
    readonly id: string;
    readonly candidates: readonly Wire[];
    readonly selected: Wire & { readonly reason: string };
    readonly warnings: readonly string[];
  }[];
}

export class Api {
  constructor(
    private readonly base: string,
    private readonly call: typeof fetch = fetch.bind(globalThis),
  ) {}

  /** Sends a picture; the same file is answered with the same id. */
  async upload(file: Blob): Promise<PictureInfo> {
    return this.send("/v1/images", file, "application/octet-stream");
  }

  /** Asks for the expensive part ahead. */
  async embedAhead(ids: readonly string[]): Promise<void> {
    const images = ids.map((id) => ({ id }));
    await this.send("/v1/embeddings", JSON.stringify({ images }), "application/json");
  }

  /** The masks for a prompt; `signal` gives it up. */
  async predict(image: string, prompt: Prompt, signal?: AbortSignal): Promise<Answer> {
    const body = JSON.stringify({ image: { id: image }, prompts: [prompt] });
    const answer = await this.send<WireAnswer>("/v1/predict", body, "application/json", signal);
    const object = answer.objects[0];
    if (object === undefined) throw new Problem(500, "no answer", undefined, undefined);
    const candidates = object.candidates.map(({ segmentation, ...rest }) => ({
      ...rest,
      mask: decode(segmentation),
    }));
    return {
      id: object.id,
      candidates,
      selected: object.selected.index ?? 0,
      reason: object.selected.reason,
      warnings: object.warnings,
    };
  }

  private async send<T>(path: string, body: BodyInit, kind: string, signal?: AbortSignal): Promise<T> {
    const headers = { "content-type": kind };
    const response = await this.call(this.base + path, {
      method: "POST",
      headers,
      body,
      ...(signal && { signal }),
    });
    if (!response.ok) throw await problemOf(response);
    return (await response.json()) as T;
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const told = (await response.json().catch(() => ({}))) as { detail?: string; field?: string };
  const after = Number(response.headers.get("retry-after"));
  const detail = told.detail ?? `the server answered with status ${response.status}`;
  return new Problem(response.status, detail, told.field, after > 0 ? after : undefined);
}
