/**
 * The service worker: after the first visit the page works without a network.
 *
 * The shell (page, runtime, tiny model, sample) is fetched when it is installed; what else the page asks for is kept once it
 * has been used. Files with a hash in their name never change; the others are asked for again, and kept copies serve when
 * there is no network.
 */

declare const SHELL: string[];
declare const VERSION: string;

const scope = self as unknown as ServiceWorkerGlobalScope;
const NAME = `posecov-${VERSION}`;
const HASHED = /\/assets\/[^/]+-[\w-]{8}\.\w+$/;

scope.addEventListener("install", (event) => {
  event.waitUntil(install());
});

async function install(): Promise<void> {
  const cache = await caches.open(NAME);
  await cache.addAll(SHELL);
  await scope.skipWaiting();
}

scope.addEventListener("activate", (event) => {
  event.waitUntil(activate());
});

async function activate(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith("posecov-") && name !== NAME).map((name) => caches.delete(name)));
  await scope.clients.claim();
}

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const here = new URL(scope.registration.scope);
  if (request.method !== "GET" || url.origin !== here.origin || !isOurs(url.pathname.slice(here.pathname.length))) return;
  event.respondWith(answer(request, HASHED.test(url.pathname)));
});

/** The page itself and its files; other paths of the same server, such as an API, are not ours. */
const isOurs = (path: string): boolean => /^(|index\.html|assets\/.*|models\/.*|sample\.jpg|icon\.svg|manifest\.webmanifest)$/.test(path);

async function answer(request: Request, unchanging: boolean): Promise<Response> {
  const cache = await caches.open(NAME);
  const kept = await cache.match(request, { ignoreVary: true, ignoreSearch: request.mode === "navigate" });
  if (kept && unchanging) return kept;
  try {
    const response = await fetch(request);
    if (response.ok && response.status !== 206) void cache.put(request, response.clone()).catch(() => {});
    return response;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}
