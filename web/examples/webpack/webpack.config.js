import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  mode: 'production',
  entry: { page: here('page.js') },
  // The worker and the WebAssembly are found by themselves.
  output: { path: here('out'), clean: true },
};
