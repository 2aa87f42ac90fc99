/** Keeps the page for use without a connection, and isolates it, so that WebAssembly gets its threads anywhere. */

const worker = self as unknown as ServiceWorkerGlobalScope;
/** Filled in by the build: what changes with any file, the files of every visit, and those of each runtime. */
declare const BUILD: { version: string; always: string[]; runtimes: Record<string, string[]> };

const CACHE = `efiqa-${BUILD.version}`;

worker.addEventListener("install", (event) => {
  event.waitUntil(keep(["./", ...BUILD.always]));
});

worker.addEventListener("activate", (event) => {
  const tidy = async () => {
    for (const name of await caches.keys()) if (name.startsWith("efiqa-") && name !== CACHE) await caches.delete(name);
    await worker.clients.claim();
  };
  event.waitUntil(tidy());
});

/** The page names the runtime that it uses; the other's megabytes are never fetched. */
worker.addEventListener("message", (event) => {
  const port = event.ports[0];
  event.waitUntil(
    keep(BUILD.runtimes[event.data] ?? []).then(
      () => port?.postMessage(true),
      () => port?.postMessage(false),
    ),
  );
});

async function keep(files: string[]): Promise<void> {
  const cache = await caches.open(CACHE);
  const missing = [];
  for (const file of files) if (!(await cache.match(file))) missing.push(file);
  await cache.addAll(missing);
}

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const path = new URL(request.url).href.replace(worker.registration.scope, "");
  const known = request.mode === "navigate" || [...BUILD.always, ...Object.values(BUILD.runtimes).flat()].includes(path);
  if (request.method !== "GET" || !known) return; // the server's answers are never kept
  event.respondWith(answer(request));
});

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const found = (await cache.match(request.mode === "navigate" ? "./" : request)) ?? (await fetch(request));
  if (found.status === 0) return found;
  const headers = new Headers(found.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
