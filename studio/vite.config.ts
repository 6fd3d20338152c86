import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "./",
  plugins: [preact({ devToolsEnabled: false })],
  // What is built is a part of the server, which has it inside.
  build: { outDir: "../crates/samara-server/page", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, reportCompressedSize: false },
  test: { include: ["tests/**/*.test.ts"] },
});
