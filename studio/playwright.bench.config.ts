/** Measurements. They take minutes and want a machine that does nothing else, so that no check runs them. */

import { defineConfig } from "@playwright/test";

import tests from "./playwright.config";

export default defineConfig(tests, {
  testDir: "bench",
  testMatch: "*.bench.ts",
  timeout: 900_000,
  use: { trace: "off" },
});
