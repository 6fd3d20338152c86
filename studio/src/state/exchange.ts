/** Annotations that go to other programs, and come from them. */

import { signal } from "@preact/signals";

import { Problem, type Exported, type Imported } from "../core/api";
import { counted } from "../core/words";
import type { Studio } from "./studio";

export class Exchange {
  /** Names of folders beside that of the pictures which are there already. */
  readonly exported = signal<ReadonlySet<string>>(new Set());

  constructor(private readonly studio: Studio) {}

  /** Into a new folder; its name is taken afterwards, and also where it was before. */
  async export(format: string, folder: string, checkedOnly: boolean, hasSplits: boolean): Promise<Exported> {
    const take = (): void => {
      this.exported.value = new Set([...this.exported.peek(), folder]);
    };
    try {
      const exported = await this.studio.api.export(format, folder, checkedOnly, hasSplits);
      take();
      return exported;
    } catch (error) {
      if (error instanceof Problem && error.status === 409) take();
      throw error;
    }
  }

  /** Undoes an import in all pictures that nobody has changed since. Answers what is to be told. */
  async takeBack({ took }: Imported): Promise<string> {
    let changed = 0;
    for (const { picture, revision } of [...took].reverse()) {
      const undone = await this.studio.api.step(picture, "undo", revision).catch(() => null);
      if (undone === null) changed++;
    }
    await this.studio.reload();
    const left = changed === 0 ? "" : ` ${counted(changed, "picture")} were changed since, and keep it.`;
    return `The import is taken back from ${counted(took.length - changed, "picture")}.${left}`;
  }
}
