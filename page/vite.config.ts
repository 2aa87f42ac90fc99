import { createHash } from "node:crypto";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

/** Tells the service worker which files there are; the two runtimes lie in folders of their own. */
function serviceWorker(): Plugin {
  return {
    name: "service-worker",
    enforce: "post",
    generateBundle(_, bundle) {
      const worker = bundle["service-worker.js"]!;
      if (worker.type !== "chunk") throw new Error("the service worker is no chunk");
      const hash = createHash("sha256");
      for (const [name, file] of Object.entries(bundle).sort()) {
        hash.update(name).update(file.type === "chunk" ? file.code : file.source);
      }
      const files = Object.keys(bundle).filter((name) => name !== worker.fileName && !name.endsWith(".map"));
      const of = (folder: string) => files.filter((name) => name.startsWith(`${folder}/`));
      const build = {
        version: hash.digest("hex").slice(0, 12),
        always: files.filter((name) => !name.startsWith("wasm/") && !name.startsWith("webgpu/")),
        runtimes: { wasm: of("wasm"), webgpu: of("webgpu") },
      };
      worker.code = `const BUILD = ${JSON.stringify(build)};\n${worker.code}`;
    },
  };
}

/** WebGPU's runtime is the larger one; a visit needs one of them. */
function folder(name: string): string {
  if (/asyncify|webgpu/.test(name)) return "webgpu";
  return /^ort/.test(name) ? "wasm" : "assets";
}

const names = {
  chunkFileNames: ({ name }: { name: string }) => `${folder(name)}/[name]-[hash].js`,
  assetFileNames: ({ names: [name] }: { names: string[] }) => `${folder(name ?? "")}/[name]-[hash][extname]`,
};

export default defineConfig({
  base: "./", // the page may lie in any folder of a host
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"] },
  build: {
    outDir: "../src/efiqa/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { index: "index.html", "service-worker": "src/service-worker.ts" },
      output: {
        ...names,
        entryFileNames: ({ name }) => (name === "service-worker" ? "[name].js" : "assets/[name]-[hash].js"),
      },
    },
  },
  worker: { format: "es", rollupOptions: { output: { ...names, entryFileNames: "assets/[name]-[hash].js" } } },
  plugins: [serviceWorker()],
  test: {
    include: [`tests/${process.env.SHOW ?? "*.test"}.ts`], // SHOW: what is made on demand, in the same browser
    testTimeout: 600_000,
    hookTimeout: 600_000,
    fileParallelism: false,
  },
});
