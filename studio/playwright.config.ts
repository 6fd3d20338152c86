import { tmpdir } from "node:os";
import { join } from "node:path";

import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "e2e",
  testMatch: "*.spec.ts",
  snapshotPathTemplate: "{testDir}/look/{arg}{ext}",
  outputDir: join(tmpdir(), "samara-studio", "test-results"),
  reporter: "list",
  forbidOnly: Boolean(process.env["CI"]),
  workers: 1,
  timeout: 60_000,
  expect: { timeout: 10_000 },
  use: {
    browserName: "chromium",
    headless: true,
    viewport: { width: 1280, height: 800 },
    // `--trace on` records everything, which takes as long again.
    screenshot: "only-on-failure",
    // The system's browser, with no sandbox of its own: that refuses to run as root.
    launchOptions: {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      chromiumSandbox: false,
    },
  },
});
