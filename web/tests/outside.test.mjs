/**
 * The package outside of browsers: in Node on the npm package `webgpu` and in Deno it computes what the library computes natively,
 * and servers import it without any WebGPU.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { assertReport } from './evaluations.mjs';
import { assertParity } from './parity.mjs';
import { FIXTURES, fixture } from './paths.mjs';
import { program, workplace } from './workplace.mjs';

/** Compiling the pipelines of several models on a software device: far above what it takes. */
const SLOW = 700_000;

const project = workplace();
const server = workplace({ bare: true });
after(async () => {
  for (const one of await Promise.allSettled([project, server])) if (one.status === 'fulfilled') one.value.remove();
});

fixture('parity.safetensors');
const stored = JSON.parse(readFileSync(fixture('parity.json'), 'utf8'));
const { tiny } = JSON.parse(readFileSync(fixture('evaluations.json'), 'utf8'));

const COMMANDS = { Node: ['node'], Deno: ['deno', 'run', '--allow-all', '--unstable-webgpu'] };

for (const [name, command] of Object.entries(COMMANDS)) {
  /** @type {Promise<any> | undefined} */
  let running;
  const found = () => {
    running ??= (async () => {
      const { folder } = await project;
      const started = Date.now();
      const { stdout, stderr } = await program(folder, [...command, 'program.mjs', FIXTURES]);
      console.log(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s: ${stderr.match(/^\w+: .* s\)$/gm)?.join(', ')}`);
      return JSON.parse(stdout.trim().split('\n').at(-1));
    })();
    return running;
  };
  /** @param {string} title @param {(got: any) => void} check */
  const finds = (title, check) => test(`${name}: ${title}`, { timeout: SLOW }, async () => check(await found()));

  finds('an explanation is the native one', (got) => assertParity(got.near, stored.near));

  finds('a worker gives exactly the same', (got) => {
    assert.equal(got.calls.free.length, 4 * 64);
    assert.deepEqual(got.worker.free, got.calls.free);
  });

  finds('samples, figures, training and files', ({ calls }) => {
    console.log(`${calls.adapter}; losses ${calls.losses.map((loss) => loss.toFixed(3)).join(', ')}`);
    assert.ok(calls.adapter.length > 3);
    assert.deepEqual(calls.samples, Array(2).fill({ bytes: true, length: 4 * 64, width: 8, height: 8 }));
    assert.equal(calls.seeded, 0, 'the same seed, the same image');
    assert.ok(calls.distinct > 0, 'of two classes two images');
    assertReport(calls.evaluation, tiny.report);
    assert.deepEqual(calls.steps, [1, 2, 3, 4]);
    assert.ok(calls.losses.length === 4 && calls.losses.every((loss) => loss > 0 && loss < 100), `losses ${calls.losses}`);
    assert.equal(calls.exported, 0, 'the exported model answers alike');
  });

  for (const calls of ['calls', 'worker']) {
    finds(`calls that run, wait and come late when their model goes (${calls})`, (got) => {
      assert.deepEqual(got[calls].disposed, ['disposed', 'disposed', 'disposed']);
    });

    finds(`pictures as bytes with width and height (${calls})`, (got) => {
      const { far, wrong, prepared } = got[calls];
      assert.deepEqual(far, { levels: 0, floats: 0, grey: 0, rgb: 0, rgba: 0, decoded: 0 });
      assert.ok(prepared.length >= 5 && prepared.every((apart) => apart === 0), `grey levels of the command: ${prepared}`);
      for (const [what, { code, typed, message }] of Object.entries(wrong)) {
        assert.ok(code === 'bad-input' && typed, `${what}: ${code}: ${message}`);
      }
      for (const what of ['a file', "a file's bytes"]) assert.match(wrong[what].message, /pixels/, what);
      assert.match(wrong['a file'].message, /\{ data, width, height \}/);
    });
  }

  for (const causes of ['causes', 'workerCauses']) {
    finds(`what is missing is named (${causes})`, (got) => {
      const one = got[causes];
      assert.equal(one['no model'].code, 'network');
      assert.match(one['no model'].message, /no-such-model\.safetensors/);
      assert.equal(one['no address'].code, 'network');
      assert.equal(one['no checkpoint'].code, 'bad-checkpoint');
      if (causes === 'workerCauses') {
        assert.equal(one['no module'].code, 'network');
        assert.match(one['no module'].message, /nowhere\/duet_web_bg\.wasm.*dist\/wasm\/duet_web_bg\.wasm.*`wasm`/s);
      }
    });
  }

  finds("an embedder's device is used and left alone; the first cause is told where it fails", (got) => {
    const { best, works, failures, after, globals, left } = got.devices;
    assert.ok(best >= 0 && best < 3);
    assert.ok(works, 'the device works on');
    assert.equal(after, 3, 'and another model does');
    assert.deepEqual(left, globals, 'nothing is left among the globals');
    if (name === 'Node') assert.deepEqual(globals.slice(1), [false, false, false], 'and nothing has to be');
    for (const [what, { code, message }] of Object.entries(failures)) {
      assert.equal(code, 'internal', `${what}: ${message}`);
      assert.match(message, /the first cause/, what);
      assert.doesNotMatch(message, /recursive use/);
    }
  });

  finds('the check of a device knows where it runs', ({ check }) => {
    assert.equal(check.stopped.code, 'aborted');
    assert.match(check.platform, new RegExp(name));
  });

  test(`${name}: the example explains an image, and ends`, { timeout: SLOW }, async () => {
    const { folder } = await project;
    const file = name === 'Node' ? 'node/explain.js' : 'deno/explain.ts';
    const { stdout } = await program(folder, [...command, file, fixture('tiny.safetensors')]);
    console.log(stdout.trim());
    assert.match(stdout, /^.+: \w+, then \w+ to \d+ %\n$/);
  });
}

test('a server without WebGPU imports the package, and is told what to do', { timeout: SLOW }, async () => {
  const { folder } = await server;
  const { stdout } = await program(folder, ['node', 'server.mjs']);
  const got = JSON.parse(stdout);
  assert.ok(got.untouched, 'no global is made');
  assert.deepEqual(got.exported.filter((name) => /^Duet/.test(name)), ['Duet', 'DuetError', 'DuetWorker']);
  for (const { code, name, typed, message } of got.failures) {
    assert.deepEqual([code, name, typed], ['no-webgpu', 'NoWebGpuError', true], message);
    assert.match(message, /npm install webgpu.*`device`.*import \{ create \} from 'webgpu'/s);
  }
});
