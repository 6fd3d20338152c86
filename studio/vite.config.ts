import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";

export default defineConfig({
  base: "./",
  plugins: [preact({ devToolsEnabled: false })],
  build: { target: "es2022", assetsInlineLimit: 0, reportCompressedSize: false },
  test: { include: ["tests/**/*.test.ts"] },
});
