import { defineConfig } from "vitest/config";

export default defineConfig({
  // Relative addresses: the same build serves at / and under any subpath.
  base: "./",
  build: {
    outDir: "../src/hubbub/web",
    emptyOutDir: true,
    target: "es2022",
    // Everything stays a file of our own origin, so that the strict CSP needs no exception.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The notices of what is bundled travel with the bundle.
    license: { fileName: "licenses.md" },
  },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:8000",
      "/ws": { target: "ws://127.0.0.1:8000", ws: true },
    },
  },
  test: { include: ["test/**/*.test.{ts,tsx}"] },
});
