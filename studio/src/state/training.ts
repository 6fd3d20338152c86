/** A fine-tune of the model on the masks of the project, as the server tells of it. */

import { computed, signal } from "@preact/signals";

import type { Model } from "../core/api";
import { isAtWork, type TrainingInfo, type TrainingRequest } from "../core/training";
import type { Studio } from "./studio";

export class Training {
  readonly info = signal<TrainingInfo | null>(null);
  readonly isAtWork = computed(() => isAtWork(this.info.value));
  /** The models that can be chosen. */
  readonly models = signal<readonly Model[]>([]);

  constructor(private readonly studio: Studio) {}

  async look(): Promise<void> {
    await this.take(() => this.studio.api.training());
    await this.lookForModels();
  }

  /** Answers whether it has begun. */
  start(request: TrainingRequest): Promise<boolean> {
    return this.take(() => this.studio.api.startTraining(request));
  }

  async stop(): Promise<void> {
    await this.take(() => this.studio.api.stopTraining());
  }

  /** Lets a model answer from now on, also in other windows. */
  async use(model: string): Promise<void> {
    const { studio } = this;
    const isUsed = await studio.attempt(() => studio.api.useModel(model).then(() => true));
    if (isUsed !== true) return;
    await this.lookForModels();
    studio.ahead.embeddings.value = new Map();
    await studio.reload();
    const open = studio.open.peek();
    if (open !== null) await studio.show(open.picture.id);
  }

  private async lookForModels(): Promise<void> {
    const models = await this.studio.attempt(() => this.studio.api.models());
    if (models !== undefined) this.models.value = models;
  }

  private async take(ask: () => Promise<TrainingInfo>): Promise<boolean> {
    const info = await this.studio.attempt(ask);
    if (info !== undefined) this.info.value = info;
    return info !== undefined;
  }
}
