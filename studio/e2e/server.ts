import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { test as base } from "@playwright/test";

export { expect } from "@playwright/test";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const BINARY = join(
  resolve(REPOSITORY, process.env["CARGO_TARGET_DIR"] ?? "target"),
  "release",
  "samara",
);

/** Colour of two sizes, one of them of several tiles; and 16-bit grey. */
const PICTURES = ["docs/coffee.png", "docs/gallery/chelsea.jpg", "fuzz/seeds/image/wide.png"];

/** How long the program has to listen, and to end. */
const PATIENCE_MS = 20_000;

/** The settings of whoever runs the tests are not the server's. */
function environment(): NodeJS.ProcessEnv {
  const ours = ["SAMARA_TOKEN", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"];
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours.includes(name)));
}

/** `samara studio` on a folder of its own, which outlives the program's restarts. */
export class Studio {
  /** Of the page; a restart keeps it. */
  url = "";
  /** What the program wrote, to both of its streams. */
  log = "";
  #program: ChildProcess | undefined;

  private constructor(
    readonly folder: string,
    private readonly flags: readonly string[],
  ) {}

  /**
   * Copies the pictures, paths from the repository's root or whole ones, into `work` and starts there. With tokens, which are by the
   * names of those who have them, nobody else is let in.
   */
  static async start(
    work: string,
    pictures: readonly string[],
    tokens: Readonly<Record<string, string>> = {},
  ): Promise<Studio> {
    const folder = join(work, "pictures");
    await mkdir(folder);
    for (const picture of pictures) {
      await copyFile(resolve(REPOSITORY, picture), join(folder, basename(picture)));
    }
    const flags = ["--state", join(work, "state")];
    if (Object.keys(tokens).length > 0) {
      const file = join(work, "tokens.txt");
      await writeFile(file, Object.entries(tokens).map(([name, token]) => `${name} ${token}\n`).join(""));
      flags.push("--token-file", file);
    }
    const studio = new Studio(folder, flags);
    await studio.#listen("127.0.0.1:0");
    return studio;
  }

  /** As a crash: nothing is written that was not before. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** As Ctrl-C; a program that does not end within `PATIENCE_MS` is killed. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Again on the same address, after `kill` or `stop` or neither. */
  async restart(): Promise<void> {
    await this.stop();
    await this.#listen(new URL(this.url).host);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const program = this.#program;
    this.#program = undefined;
    if (program?.exitCode !== null || program.signalCode !== null) return;
    const late = setTimeout(() => program.kill("SIGKILL"), PATIENCE_MS);
    const ended = once(program, "close");
    program.kill(signal);
    await ended;
    clearTimeout(late);
  }

  async #listen(address: string): Promise<void> {
    const flags = ["--no-open", "--listen", address, ...this.flags];
    const program = spawn(BINARY, ["studio", this.folder, ...flags], {
      env: environment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#program = program;
    program.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.log += text;
    });
    const late = setTimeout(() => program.kill("SIGKILL"), PATIENCE_MS);
    try {
      this.url = await new Promise<string>((found, failed) => {
        program.once("error", failed);
        program.once("close", () => {
          failed(new Error(`${BINARY} ended before it listened:\n${this.log}`));
        });
        createInterface(program.stdout).on("line", (line) => {
          this.log += `${line}\n`;
          const url = /^Samara Studio: (http:\S+)/.exec(line)?.[1];
          if (url !== undefined) found(url);
        });
      });
    } finally {
      clearTimeout(late);
    }
  }
}

interface Options {
  /** What the folder has at first: paths from the repository's root. */
  pictures: readonly string[];
  /** By the names of those who have them. */
  tokens: Readonly<Record<string, string>>;
}

interface Fixtures {
  studio: Studio;
}

export const test = base.extend<Options & Fixtures>({
  pictures: [PICTURES, { option: true }],
  tokens: [{}, { option: true }],

  studio: async ({ pictures, tokens }, use, info) => {
    const work = await realpath(await mkdtemp(join(tmpdir(), "samara-studio-")));
    try {
      const studio = await Studio.start(work, pictures, tokens);
      try {
        await use(studio);
      } finally {
        await studio.stop();
        await info.attach("server.log", { body: studio.log, contentType: "text/plain" });
      }
      if (studio.log.includes("panicked")) throw new Error(`The server:\n${studio.log}`);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  },

  // What the page throws and what its policy forbids fails the test that it happens in.
  page: async ({ page }, use) => {
    // A page that was built since the program: quicker to try than another build of the program.
    const built = process.env["STUDIO_PAGE"];
    if (built !== undefined) {
      await page.context().route(/\/studio\//, (route) => {
        const path = new URL(route.request().url()).pathname.replace(/^\/studio\//, "") || "index.html";
        return route.fulfill({ path: join(built, path) });
      });
    }
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.stack ?? error.message));
    page.on("console", (message) => {
      if (message.text().includes("Content Security Policy")) errors.push(message.text());
    });
    await use(page);
    if (errors.length > 0) throw new Error(`The page:\n${errors.join("\n")}`);
  },
});
