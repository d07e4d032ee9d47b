import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build, defineConfig } from 'vite';
import type { Plugin } from 'vite';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Files that keep their names, of what the page itself consists of. Models are kept once they are used. */
const LASTING = ['manifest.webmanifest', ...readdirSync(here('public/icons')).map((name) => `icons/${name}`)];

/** Builds the service worker, which has to know what the page consists of and when that changed. */
function offline(): Plugin {
  return {
    name: 'offline',
    apply: 'build',
    async writeBundle({ dir }, bundle) {
      const built = Object.entries(bundle).filter(([name]) => !name.endsWith('.map'));
      const hash = createHash('sha256');
      for (const [name, part] of built) hash.update(name).update(part.type === 'asset' ? part.source : part.code);
      // The address of the page itself is its folder: servers may lead index.html there.
      const files = built.map(([name]) => (name === 'index.html' ? './' : `./${name}`));
      await build({
        configFile: false,
        logLevel: 'warn',
        publicDir: false,
        define: {
          FILES: JSON.stringify([...files, ...LASTING.map((name) => `./${name}`)]),
          VERSION: JSON.stringify(hash.digest('hex').slice(0, 16)),
        },
        build: {
          outDir: dir,
          emptyOutDir: false,
          target: 'es2022',
          lib: { entry: here('offline/keeper.ts'), formats: ['iife'], name: 'keeper', fileName: () => 'offline.js' },
        },
      });
    },
  };
}

/** Puts what the heads of all pages have in common, their policy among it, into the place that names its file. */
function commonHead(): Plugin {
  const name = 'head.html';
  const place = `  <!-- ${name} -->\n`;
  return {
    name: 'common-head',
    transformIndexHtml: {
      // Before addresses are looked at.
      order: 'pre',
      handler(html, { filename }) {
        if (!html.includes(place)) throw new Error(`${filename} has no place for ${name}`);
        return html.replace(place, () => readFileSync(here(name), 'utf8'));
      },
    },
  };
}

export default defineConfig({
  root: here('.'),
  // Relative addresses: the page works from any folder of any server.
  base: './',
  resolve: {
    alias: [
      { find: /^duet-diffusion$/, replacement: here('../dist/index.js') },
      { find: /^duet-diffusion\/element$/, replacement: here('../dist/element.js') },
    ],
  },
  build: {
    outDir: 'dist',
    emptyOutDir: true,
    target: 'es2022',
    // The content security policy allows neither inline scripts nor data: fetches.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: { index: here('index.html'), check: here('check.html'), embed: here('embed.html') } },
  },
  worker: { format: 'es' },
  plugins: [commonHead(), offline()],
});
