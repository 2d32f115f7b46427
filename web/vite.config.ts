import { readFile, writeFile } from "node:fs/promises";
import { defineConfig } from "vitest/config";

const OUT = "../src/hubbub/web";
const LICENSES = "licenses.md";

/** Swagger UI comes bundled, so Vite cannot see whose work is inside it; the package brings those notices along. */
const noticesOfSwaggerUI = {
  name: "notices-of-swagger-ui",
  async closeBundle(): Promise<void> {
    const package_ = new URL("./node_modules/swagger-ui-dist/", import.meta.url);
    const said = ["NOTICE", "swagger-ui-es-bundle.js.LICENSE.txt"].map((name) => readFile(new URL(name, package_), "utf8"));
    const [notice, inside] = await Promise.all(said);
    const text = `\n## Inside swagger-ui-dist\n\n${notice}\n${inside}`;
    await writeFile(new URL(`${OUT}/${LICENSES}`, import.meta.url), text, { flag: "a" });
  },
};

export default defineConfig({
  // Relative addresses: the same build serves at / and under any subpath.
  base: "./",
  plugins: [noticesOfSwaggerUI],
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    // Everything stays a file of our own origin, so that the strict CSP needs no exception.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The notices of what is bundled travel with the bundle.
    license: { fileName: LICENSES },
    rolldownOptions: { input: ["index.html", "docs.html"] },
    // Swagger UI, which only /docs loads.
    chunkSizeWarningLimit: 2000,
  },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:8000",
      "/openapi.json": "http://127.0.0.1:8000",
      "/ws": { target: "ws://127.0.0.1:8000", ws: true },
    },
  },
  test: { include: ["test/**/*.test.{ts,tsx}"] },
});
