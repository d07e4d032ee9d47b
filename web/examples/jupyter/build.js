import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const require = createRequire(import.meta.url);
const common = { bundle: true, format: 'esm', target: 'es2022', minify: true, logLevel: 'error' };

// A notebook's front end gets the widget as the text of one module and knows no address to fetch anything else from: the worker and the
// WebAssembly are inside, the latter packed: every widget's module goes through the kernel's messages.
const inside = {
  name: 'inside',
  setup(to) {
    to.onResolve({ filter: /^inside:/ }, ({ path }) => ({ path, namespace: 'inside' }));
    to.onLoad({ filter: /worker$/, namespace: 'inside' }, async () => {
      const made = await build({ ...common, entryPoints: ['duet-diffusion/worker'], absWorkingDir: here('.'), write: false });
      return { contents: made.outputFiles[0].text, loader: 'text' };
    });
    to.onLoad({ filter: /wasm$/, namespace: 'inside' }, async () => ({
      contents: gzipSync(await readFile(require.resolve('duet-diffusion/duet_web_bg.wasm')), { level: 9 }),
      loader: 'binary',
    }));
  },
};

await build({ ...common, entryPoints: [here('widget.js')], outfile: here('duet_widget/widget.js'), plugins: [inside] });
