import { cp } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const require = createRequire(import.meta.url);

// esbuild sees neither the worker nor the WebAssembly: the worker is built as a file of its own beside the page's, and the
// WebAssembly is copied to where both look for it.
await build({
  entryPoints: { page: here('page.js'), worker: 'duet-diffusion/worker' },
  bundle: true,
  format: 'esm',
  target: 'es2022',
  minify: true,
  outdir: here('out'),
});
await cp(require.resolve('duet-diffusion/duet_web_bg.wasm'), here('out/wasm/duet_web_bg.wasm'));
