/**
 * A folder as a user's project is: the package as it would be published, the packages that users bring, and the examples.
 */

import { execFile, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { DIST, EXAMPLES, TESTS, dist } from './paths.mjs';

const execute = promisify(execFile);

/** Far above what a program of the tests takes; only one that hangs gets here. */
const LIMIT = 600_000;

/** SwiftShader's Vulkan driver, which Chromium brings: Dawn refuses that of Debian 12's Mesa. */
const SWIFTSHADER = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Installs the package as `npm publish` would send it. @param {string} folder */
async function install(folder) {
  dist();
  const { stdout } = await execute('npm', ['pack', '--json', '--pack-destination', folder], { cwd: path.dirname(DIST) });
  const [{ filename }] = JSON.parse(stdout);
  const target = path.join(folder, 'node_modules/duet-diffusion');
  mkdirSync(target, { recursive: true });
  await execute('tar', ['-xzf', path.join(folder, filename), '-C', target, '--strip-components=1']);
  return target;
}

/**
 * A project with the package and, unless it is `bare`, what `web/examples/package.json` names beside it.
 * @param {{ bare?: boolean }} [options]
 */
export async function workplace({ bare = false } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'duet-project-'));
  const installed = await install(folder);
  cpSync(path.join(TESTS, 'outside'), folder, { recursive: true });
  cpSync(path.join(TESTS, 'pages/helpers.mjs'), path.join(folder, 'helpers.mjs'));
  if (!bare) {
    cpSync(EXAMPLES, folder, { recursive: true, filter: (file) => path.basename(file) !== 'node_modules' });
    const { dependencies, devDependencies } = JSON.parse(readFileSync(path.join(EXAMPLES, 'package.json'), 'utf8'));
    for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
      if (name === 'duet-diffusion') continue;
      const from = path.join(EXAMPLES, 'node_modules', name);
      if (!existsSync(from)) throw new Error(`${name} is missing: run \`sh scripts/install.sh examples\` in the folder web`);
      symlinkSync(from, path.join(folder, 'node_modules', name));
    }
  }
  return { folder, installed, remove: () => rmSync(folder, { recursive: true }) };
}

/** A program's file and its surroundings. @param {string} name */
function found(name) {
  const env = { ...process.env, NO_COLOR: '1' };
  // Deno finds Mesa's by itself.
  if (name === 'node' && existsSync(SWIFTSHADER)) env.VK_ICD_FILENAMES = env.VK_DRIVER_FILES ??= SWIFTSHADER;
  return { env, file: name === 'node' ? process.execPath : path.join(EXAMPLES, 'node_modules/.bin', name) };
}

/**
 * Runs a program in a project; fails where it fails, or does not end.
 * @param {string} folder
 * @param {string[]} command
 */
export async function program(folder, [name, ...words]) {
  const { env, file } = found(name);
  try {
    return await execute(file, words, { cwd: folder, env, timeout: LIMIT, maxBuffer: 2 ** 27 });
  } catch (error) {
    const { stdout, stderr, killed, code, signal } = /** @type {any} */ (error);
    throw new Error(`${[name, ...words].join(' ')}${killed ? ' did not end' : ` ended with ${signal ?? code}`}: ${error.message.slice(0, 2000)}\n${stderr}\n${String(stdout).slice(0, 2000)}`);
  }
}

/**
 * Runs a server in a project until `stop`, from the address that it prints.
 * @param {string} folder
 * @param {string[]} command
 * @returns {Promise<{ url: string, stop: () => void }>}
 */
export function serving(folder, [name, ...words]) {
  const { env, file } = found(name);
  const child = spawn(file, words, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    let said = '';
    child.stdout.on('data', (part) => {
      said += part;
      const url = said.match(/http:\/\/(localhost|127\.0\.0\.1):\d+\//)?.[0];
      if (url !== undefined) resolve({ url, stop: () => void child.kill() });
    });
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`${name} ended with code ${code}:\n${said}`)));
  });
}
