/** The same tests in Firefox as Debian has it, which Playwright drives by WebDriver BiDi. */

import { defineConfig } from "@playwright/test";

import tests from "./playwright.config";

export default defineConfig(
  { ...tests, use: { ...tests.use, launchOptions: {} } },
  {
    // How text is drawn is the browser's own; 500 actions take two minutes here, and test no part of the browser.
    testIgnore: ["visual.spec.ts", "random.spec.ts"],
    // The system's colours cannot be chosen for it.
    grepInvert: /dark system/,
    // The way of driving it is young.
    retries: 1,
    use: {
      browserName: "firefox",
      channel: "moz-firefox",
      launchOptions: { executablePath: process.env["FIREFOX"] ?? "/usr/bin/firefox-esr" },
    },
  },
);
