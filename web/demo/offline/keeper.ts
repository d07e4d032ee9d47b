/**
 * The service worker: the page and the models that were used work without a network. What has a hash in its name never
 * changes and comes from the cache; everything else comes from the network while there is one, so that a visitor never sees
 * an old model or list, and as it was kept where there is none.
 */

import { DATA, PAGE } from './names';

/** What the page consists of, put here by the build, and a hash of it. */
declare const FILES: readonly string[];
declare const VERSION: string;

const worker = self as unknown as ServiceWorkerGlobalScope;
const page = PAGE + VERSION;
/** For so many milliseconds a page that is kept waits for a newer one. */
const PATIENCE = 4000;

/** Keeps an answer. */
async function keep(name: string, request: Request | string, answer: Response): Promise<void> {
  // A page that came by a redirection may not answer a navigation.
  const { headers, status, statusText, redirected, body } = answer;
  const plain = redirected ? new Response(body, { headers, status, statusText }) : answer;
  await (await caches.open(name)).put(request, plain);
}

/** All of the page or nothing. */
async function install(): Promise<void> {
  const fetched = FILES.map(async (file) => {
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`${file}: status ${answer.status}`);
    await keep(page, file, answer);
  });
  await Promise.all(fetched);
}

/** What could not be kept, as where there is no room, is of use all the same. */
function unkept(error: unknown): void {
  console.warn('not kept for use without a network:', error);
}

/** Throws away what earlier versions of the page consisted of. */
async function activate(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PAGE) && name !== page).map((name) => caches.delete(name)));
  await worker.clients.claim();
}

/** Whether a file's name has a hash of its contents. */
function isHashed({ pathname }: URL): boolean {
  return /\/assets\/[^/]+-[\w-]{8}\.\w+$/.test(pathname);
}

/** What is kept for a request; a page is known without its ending, too. */
async function kept(request: Request): Promise<Response | undefined> {
  const found = await caches.match(request, { ignoreSearch: request.mode === 'navigate' });
  if (found || request.mode !== 'navigate') return found;
  const { origin, pathname } = new URL(request.url);
  return caches.match(`${origin}${pathname}.html`);
}

/** What never changes. */
async function lasting(request: Request): Promise<Response> {
  return (await caches.match(request)) ?? fetch(request);
}

/** The newest there is. */
async function newest(event: FetchEvent): Promise<Response> {
  const { request } = event;
  const fetched = fetch(request).then((answer) => {
    // Pages are kept all together, each with what it consists of.
    if (answer.status === 200 && request.mode !== 'navigate') event.waitUntil(keep(DATA, request, answer.clone()).catch(unkept));
    return answer;
  });
  const before = (): Promise<Response | undefined> => kept(request).catch(() => undefined);
  try {
    if (request.mode !== 'navigate') return await fetched;
    const late = new Promise<undefined>((done) => setTimeout(done, PATIENCE, undefined));
    return (await Promise.race([fetched, late])) ?? (await before()) ?? (await fetched);
  } catch (error) {
    const found = await before();
    if (!found) throw error;
    return found;
  }
}

worker.addEventListener('install', (event) => event.waitUntil(install()));
worker.addEventListener('activate', (event) => event.waitUntil(activate()));
worker.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  const ours = event.request.method === 'GET' && url.href.startsWith(worker.registration.scope);
  // Parts of files are nobody's business here.
  if (!ours || event.request.headers.has('range')) return;
  event.respondWith(isHashed(url) ? lasting(event.request) : newest(event));
});
