/**
 * A small static file server for the demo and the tests. WebGPU needs a secure context, which a page opened from the
 * disk is not and one from this machine's own address is.
 *
 *     node scripts/serve.mjs FOLDER [--port N] [--open-message]
 *
 * Ours, since what `vite preview` does is not what the tests need (tried with Vite as locked): it serves one folder, not
 * several under prefixes; follows symbolic links out of it; answers POST with the file; does not lead `/sub` to `/sub/`.
 */

import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Only this machine may ask. */
const HOST = '127.0.0.1';
const DEFAULT_PORT = 8080;

/** What a page using this package needs, and nothing more: it proves that the package runs under a strict policy. */
export const STRICT_POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.ico': 'image/x-icon',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.md': 'text/markdown; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
  // Streaming compilation insists on this one.
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

/**
 * @typedef {{ prefix: string, target: string, file: boolean }} Mount
 * A prefix of addresses and the folder (or the one file) behind it.
 */

/**
 * @param {string | Record<string, string>} folders
 * @returns {Promise<Mount[]>}
 */
async function mounts(folders) {
  const map = typeof folders === 'string' ? { '/': folders } : folders;
  const found = [];
  for (const [prefix, target] of Object.entries(map)) {
    let real;
    let file;
    try {
      real = await realpath(target);
      file = (await stat(real)).isFile();
    } catch {
      throw new Error(`there is no ${target} to serve as ${prefix}`);
    }
    if (!prefix.startsWith('/') || (!file && !prefix.endsWith('/'))) {
      throw new Error(`a folder's prefix must start and end with a slash: ${prefix}`);
    }
    found.push({ prefix, target: real, file });
  }
  // The longest prefix that fits wins.
  return found.sort((a, b) => b.prefix.length - a.prefix.length);
}

/** Something that ends a request without a file. */
class Refusal extends Error {
  /** @param {number} status @param {string} message @param {Record<string, string>} [headers] */
  constructor(status, message, headers = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/**
 * The file that an address means.
 * @param {Mount[]} served
 * @param {string} url
 * @returns {Promise<{ file: string, size: number }>}
 */
async function resolve(served, url) {
  const query = url.indexOf('?');
  const raw = query < 0 ? url : url.slice(0, query);
  let name;
  try {
    name = decodeURIComponent(raw);
  } catch {
    throw new Refusal(400, 'the address is not well formed');
  }
  if (!name.startsWith('/') || /[\0\\]|\/\//.test(name)) {
    throw new Refusal(400, 'the address is not well formed');
  }
  if (served.some((m) => m.prefix === `${name}/`)) {
    throw new Refusal(301, 'a folder', { Location: `${raw}/` });
  }
  const mount = served.find((m) => (m.file ? m.prefix === name : name.startsWith(m.prefix)));
  if (mount === undefined) throw new Refusal(404, `nothing is served as ${name}`);
  let file = mount.file ? mount.target : path.join(mount.target, name.slice(mount.prefix.length));
  try {
    let known = await stat(file).catch(async (error) => {
      // A page is found without its ending, too.
      if (mount.file || path.extname(file) !== '' || name.endsWith('/')) throw error;
      file += '.html';
      return stat(file);
    });
    if (known.isDirectory()) {
      // Relative addresses of the page would be wrong without the slash.
      if (!name.endsWith('/')) throw new Refusal(301, 'a folder', { Location: `${raw}/` });
      file = path.join(file, 'index.html');
      known = await stat(file);
    }
    // Checked on the real path, so that neither dots nor symbolic links lead out of the folder.
    const real = await realpath(file);
    if (real !== mount.target && !real.startsWith(mount.target + path.sep)) {
      throw new Refusal(403, 'outside of the folder');
    }
    if (!known.isFile()) throw new Refusal(403, 'not a file');
    return { file: real, size: known.size };
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(404, `there is no ${name}`);
  }
}

/**
 * Serves a folder, or several under a prefix each (a prefix may also stand for one file).
 * @param {string | Record<string, string>} folders
 * @param {{ port?: number, policy?: string, answer?: (request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse) => Promise<boolean> }} [options]
 * port 0 (the default) takes any free one; `answer` is asked first and says whether it answered
 * @returns {Promise<{ url: string, close: () => Promise<void> }>} `url` ends without a slash
 */
export async function serve(folders, { port = 0, policy = STRICT_POLICY, answer } = {}) {
  const served = await mounts(folders);
  const server = createServer(async (request, response) => {
    try {
      if (await answer?.(request, response)) return;
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        throw new Refusal(405, 'only GET and HEAD', { Allow: 'GET, HEAD' });
      }
      const { file, size } = await resolve(served, request.url ?? '/');
      const type = TYPES[path.extname(file).toLowerCase()] ?? 'application/octet-stream';
      const headers = { 'Content-Type': type, 'Content-Length': size, 'Cache-Control': 'no-cache' };
      if (type.startsWith('text/html')) {
        headers['Content-Security-Policy'] = policy;
      }
      headers['X-Content-Type-Options'] = 'nosniff';
      response.writeHead(200, headers);
      if (request.method === 'HEAD') {
        response.end();
        return;
      }
      // A file that shrinks or vanishes meanwhile ends the connection, not the server.
      createReadStream(file).on('error', () => response.destroy()).pipe(response);
    } catch (error) {
      const known = error instanceof Refusal;
      const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' };
      response.writeHead(known ? error.status : 500, { ...headers, ...(known ? error.headers : {}) });
      response.end(known ? `${error.message}\n` : 'the server failed\n');
    }
  });
  await new Promise((done, failed) => {
    server.once('error', (error) => {
      const taken = /** @type {NodeJS.ErrnoException} */ (error).code === 'EADDRINUSE';
      failed(taken ? new Error(`port ${port} is taken; choose another with --port`) : error);
    });
    server.listen(port, HOST, () => done(undefined));
  });
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    url: `http://${HOST}:${address.port}`,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        // Browsers keep connections open, which would hold the server.
        server.closeAllConnections?.();
      }),
  };
}

/** @param {string[]} words */
async function main(words) {
  const usage = 'usage: node scripts/serve.mjs FOLDER [--port N] [--open-message]';
  let folder;
  let port = DEFAULT_PORT;
  let message = false;
  for (let i = 0; i < words.length; i += 1) {
    if (words[i] === '--port') {
      port = Number(words[(i += 1)]);
      if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`no port: ${words[i]}\n${usage}`);
    } else if (words[i] === '--open-message') {
      message = true;
    } else if (words[i].startsWith('-') || folder !== undefined) {
      throw new Error(`unknown argument ${words[i]}\n${usage}`);
    } else {
      folder = words[i];
    }
  }
  if (folder === undefined) throw new Error(usage);
  const { url } = await serve(folder, { port });
  console.log(
    message ? `Open ${url}/ in a browser with WebGPU. Ctrl+C ends the server.` : `serving ${folder} at ${url}/`,
  );
}

if (process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
