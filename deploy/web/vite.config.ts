/** The build: page, worker, models, licences and the service worker's list into dist/. */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { build as viteBuild, defineConfig, type Plugin } from "vite";

const here = import.meta.dirname;
const repository = resolve(here, "../..");
const MODELS = { tiny: "posecov-lsp14-tiny.onnx", small: "posecov-lsp14-small.onnx" };

/** The shipped models as models/tiny.onnx and models/small.onnx, in the build and in development. */
function models(): Plugin {
  const path = (name: keyof typeof MODELS): string => resolve(repository, "weights", MODELS[name]);
  return {
    name: "models",
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const name = /^\/models\/(tiny|small)\.onnx$/.exec(request.url ?? "")?.[1] as keyof typeof MODELS | undefined;
        if (name) response.end(readFileSync(path(name)));
        else next();
      });
    },
    generateBundle() {
      for (const name of Object.keys(MODELS) as (keyof typeof MODELS)[]) {
        this.emitFile({ type: "asset", fileName: `models/${name}.onnx`, source: readFileSync(path(name)) });
      }
    },
  };
}

/** Licences of the packages that the page uses, of this project and of the weights' data, as licences.txt. A package without
 *  its own text has it in licences/. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const own = JSON.parse(readFileSync(resolve(here, "package.json"), "utf8")) as { dependencies: Record<string, string> };
      const parts = [
        `posecov (Apache-2.0)\n\n${readFileSync(resolve(repository, "LICENSE"), "utf8")}`,
        "The models were made from data that is for research use (see weights/ in the repository). " +
          "The sample picture is NASA's portrait of Eileen Collins, in the public domain.",
      ];
      const seen = new Set<string>();
      const add = (name: string): void => {
        if (seen.has(name) || name.startsWith("@types/")) return;
        seen.add(name);
        const folder = resolve(here, "node_modules", name);
        if (!existsSync(folder)) return;
        const facts = JSON.parse(readFileSync(resolve(folder, "package.json"), "utf8")) as {
          version: string; license?: string; author?: string | { name: string }; dependencies?: Record<string, string>;
        };
        const texts = readdirSync(folder).filter((file) => /^(licen[sc]e|notice|thirdparty)/i.test(file));
        const author = typeof facts.author === "string" ? facts.author : facts.author?.name;
        const lines = texts.map((file) => readFileSync(resolve(folder, file), "utf8"));
        const written = resolve(here, "licences", `${name.replace("/", "-")}.txt`);
        if (!lines.length && existsSync(written)) lines.push(readFileSync(written, "utf8"));
        parts.push([`${name} ${facts.version} (${facts.license ?? "?"})${author ? `, ${author}` : ""}`, ...lines].join("\n\n"));
        Object.keys(facts.dependencies ?? {}).forEach(add);
      };
      Object.keys(own.dependencies).forEach(add);
      this.emitFile({ type: "asset", fileName: "licences.txt", source: parts.join(`\n\n${"-".repeat(100)}\n\n`) });
    },
  };
}

/** sw.js, with the list of what the page needs to start without a network, and a version that changes with any of it. */
function serviceWorker(): Plugin {
  return {
    name: "service-worker",
    async writeBundle(options, bundle) {
      const folder = options.dir!;
      const later = /asyncify|webgpu|small\.onnx|licences|\.map$/;
      const shell = Object.keys(bundle).filter((name) => !later.test(name));
      shell.push(...readdirSync(resolve(here, "public")));
      const hash = createHash("sha256");
      for (const name of Object.keys(bundle).sort()) hash.update(name).update(readFileSync(resolve(folder, name)));
      const list = ["./", ...shell.filter((name) => name !== "index.html")];
      await viteBuild({
        configFile: false,
        root: here,
        logLevel: "warn",
        define: { SHELL: JSON.stringify(list), VERSION: JSON.stringify(hash.digest("hex").slice(0, 12)) },
        build: {
          outDir: folder,
          emptyOutDir: false,
          copyPublicDir: false,
          lib: { entry: resolve(here, "src/sw.ts"), formats: ["es"], fileName: () => "sw.js" },
        },
      });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [models(), licences(), serviceWorker()],
  // ONNX Runtime's own files stay as they are and are found by wasmPaths.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "import", "module", "browser", "default"] },
  worker: { format: "es", rollupOptions: { output: { entryFileNames: "assets/[name]-[hash].js" } } },
  optimizeDeps: { exclude: ["onnxruntime-web"] },
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
  server: { headers: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" } },
});
