import { defineConfig } from 'vite';

export default defineConfig({
  // Relative addresses: the page works from any folder of any server.
  base: './',
  build: { outDir: 'out', target: 'es2022' },
  // While developing, Vite puts packages into one file each, without the worker and the WebAssembly beside them: not this one.
  optimizeDeps: { exclude: ['duet-diffusion'] },
});
