import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  build: { outDir: 'out', target: 'es2022' },
  esbuild: { jsx: 'automatic' },
  optimizeDeps: { exclude: ['duet-diffusion'] },
});
