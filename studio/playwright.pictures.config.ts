import { defineConfig } from "@playwright/test";

import base from "./playwright.config";

/** The pictures of the documentation, drawn by the page itself. */
export default defineConfig(base, { testDir: "pictures" });
