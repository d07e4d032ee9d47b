/**
 * Explanations by the local method: exact without strength, local, up a ladder, several at once, labels taken away; and which
 * options belong to which method.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryPage, whole } from './browser.mjs';
import { fixture } from './paths.mjs';

/** Grey and coloured, of one class and of several labels, at odd sizes. */
const MODELS = ['grey-classes', 'grey-labels', 'colour-classes', 'colour-labels'];

const { run } = libraryPage({ model: 'parity.safetensors', share: true });
for (const name of MODELS) fixture(`tiny-${name}.safetensors`);

test('without strength it is the image itself', { timeout: 2 * SLOW }, async () => {
  const got = await run(async (models) => {
    const { duet, helpers } = globalThis;
    const rows = [];
    for (const name of models) {
      const model = await duet.Duet.load(`/fixtures/tiny-${name}.safetensors`);
      const { imageSize, channels, head } = model.info;
      const image = Float32Array.from({ length: channels * imageSize ** 2 }, (_, i) => Math.sin(1.7 * i + 1));
      const half = Float32Array.from({ length: imageSize ** 2 }, (_, i) => Number(i % imageSize < imageSize / 2));
      const target = head === 'multi_label' ? '-WBC' : 2;
      for (const more of [{}, { locality: 0 }, { mask: half }, { guidance: 'representation', locality: 0 }]) {
        const made = await model.explain(image, { target, strength: 0, steps: 20, ...more });
        const moved = await model.explain(image, { target, strength: 3, steps: 20, ...more });
        rows.push({
          what: `${name} ${target} ${Object.keys(more)}`,
          apart: helpers.apart(made.counterfactualValues, image),
          values: helpers.apart(made.differenceValues, new Float32Array(image.length)),
          strength: [made.strength, made.rung, made.rungs, made.chains, made.meanChange < 1e-6],
          moved: helpers.apart(moved.counterfactualValues, image),
        });
      }
      await model.dispose();
    }
    return rows;
  }, MODELS);
  assert.equal(got.length, 16);
  for (const { what, apart, values, strength, moved } of got) {
    assert.ok(apart <= 1e-6 && values <= 1e-6, `${what}: ${apart} from the image`);
    assert.deepEqual(strength, [0, 0, 1, 1, true], what);
    assert.ok(moved > 0.01, `${what}: with strength it moves, by ${moved}`);
  }
});

/** An image of the shipped test set, in the page. */
const SNEAKER = '/fixtures/parity.json';
/** A worker compiles its pipelines anew; that it says the same is tested by parity. */
const OTHER = whole ? 'DuetWorker' : 'Duet';

test('a second question about an image costs a chain alone', { timeout: SLOW }, async () => {
  const got = await run(async (address) => {
    const { helpers, model } = globalThis;
    const image = Float32Array.from((await (await fetch(address)).json()).near.image);
    const ask = async (options) => {
      const steps = [];
      const onStep = ({ done, total }) => steps.push([done, total]);
      const made = await model.explain(image, { seed: 3, ...options, onStep });
      return { made, steps };
    };
    const first = await ask({ target: 9 });
    const class5 = await ask({ target: 5 });
    const weaker = await ask({ target: 9, strength: 1.4 });
    const again = await ask({ target: 9 });
    const seed = await ask({ target: 9, seed: 4 });
    return {
      passes: [first, class5, weaker, again, seed].map(({ made }) => [made.passes, made.chains]),
      steps: [first, again].map(({ steps }) => steps),
      same: helpers.apart(first.made.counterfactualValues, again.made.counterfactualValues),
      less: weaker.made.meanChange < first.made.meanChange,
      other: helpers.apart(first.made.counterfactualValues, seed.made.counterfactualValues),
      outside: first.made.differenceValues.filter((d) => d === 0).length / image.length,
      meanChange: [first.made.meanChange, first.made.differenceValues.reduce((s, d) => s + Math.abs(d), 0) / 2 / image.length],
      plain: [first.made.reached, first.made.rung, first.made.rungs, first.made.strength, first.made.moved, first.made.present, first.made.method],
      seeds: [first.made.seed, seed.made.seed],
    };
  }, SNEAKER);
  // Ten steps of inversion and ten of the chain, and the check at its end; then the chain alone.
  const chain = (chains) => ({ encoder: 11 * chains, decoder: 10 * chains, backward: 10 * chains });
  const [first, ...kept] = got.passes;
  const seed = kept.pop();
  for (const [passes, chains] of [first, seed]) {
    assert.deepEqual(passes, { ...chain(chains), encoder: 10 + 11 * chains, decoder: 10 + 10 * chains });
  }
  for (const [passes, chains] of kept) assert.deepEqual(passes, chain(chains));
  assert.equal(got.same, 0, 'the kept inversion gives the same');
  assert.ok(got.other > 0, 'another seed, another answer');
  assert.ok(got.less, 'less strength changes less');
  assert.deepEqual(got.steps[0], Array.from({ length: 11 }, (_, i) => [i + 1, 11]), 'the inversion is one step');
  assert.deepEqual(got.steps[1], Array.from({ length: 10 }, (_, i) => [i + 1, 10]));
  assert.ok(got.outside > 0.5, `${got.outside} of the picture are the original's to the bit`);
  assert.ok(Math.abs(got.meanChange[0] - got.meanChange[1]) < 1e-6, String(got.meanChange));
  got.plain[3] = Number(got.plain[3].toFixed(6));
  assert.deepEqual(got.plain, [true, 0, 4, 1.7, 0, true, 'local']);
  assert.deepEqual(got.seeds, [3, 4]);
});

test('what one strength does not reach is tried with more, and the steps in all grow', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.signed(helpers.greys(8, 1));
    const { before } = await model.explain(image, { target: 0, strength: 0, steps: 20 });
    const least = before.probabilities.indexOf(Math.min(...before.probabilities));
    const told = [];
    const onStep = ({ done, total, curve }) => told.push([done, total, curve.length]);
    // Hardly any strength: the class stays what it is.
    const made = await model.explain(image, { target: least, strength: 0.001, seed: 1, steps: 20, onStep });
    await model.dispose();
    return { told, made: { ...made, original: 0, noised: 0, counterfactual: 0, difference: 0 } };
  });
  const { told, made } = got;
  assert.deepEqual([made.reached, made.chains, made.rungs], [false, 4, 4]);
  // One run of inversion, four chains of four steps.
  assert.equal(told.length, 17);
  assert.deepEqual(told.map(([done]) => done), told.map((_, i) => i + 1));
  assert.deepEqual([told[0], told[1], told.at(-1)], [[1, 5, 0], [2, 5, 1], [17, 17, 4]]);
  assert.ok(told.every(([done, total], i) => done <= total && (i === 0 || total >= told[i - 1][1])), 'steps in all only grow');
  assert.ok(Math.abs(made.strength - 0.001 * Math.SQRT2 ** made.rung) < 1e-8, `strength ${made.strength} of rung ${made.rung}`);
});

test('several answers, and every target at once', { timeout: 2 * SLOW }, async () => {
  const got = await run(async ([address, kind]) => {
    const { duet, helpers, model } = globalThis;
    const image = Float32Array.from((await (await fetch(address)).json()).near.image);
    const plain = ({ reached, seed, meanChange, target, differenceValues, passes, present }) => ({
      reached,
      seed,
      meanChange,
      target,
      present,
      passes,
      touched: [...differenceValues].map((d) => Number(Math.abs(d) > 16 / 255)),
    });
    const curves = new Set();
    const best = await model.explain(image, { target: 9, variants: 3, seed: 10, onStep: (step) => curves.add('curve' in step) });
    const single = await model.explain(image, { target: 9, seed: best.seed });
    const one = await model.explain(image, { target: 9, variants: 1 });
    const worker = await duet[kind].load('/fixtures/parity.safetensors');
    const all = await worker.explainAll(image, { seed: 10 });
    await worker.dispose();
    return {
      best: plain(best),
      variants: best.variants.map(plain),
      stability: [...best.stability],
      single: helpers.apart(best.counterfactualValues, single.counterfactualValues),
      curves: [...curves],
      none: ['variants' in one, 'stability' in one],
      all: all.map(plain),
      likeness: all.map(({ after }) => after.typicality !== null),
      before: all[0].before.best,
    };
  }, [SNEAKER, OTHER]);
  const { variants, stability } = got;
  assert.deepEqual(variants.map(({ seed }) => seed).sort(), [10, 11, 12]);
  assert.deepEqual(got.best, variants[0], 'the first answer is the best');
  const changes = variants.filter(({ reached }) => reached).map(({ meanChange }) => meanChange);
  assert.ok(changes.length > 0 && changes.every((change, i) => i === 0 || change >= changes[i - 1]), String(changes));
  const reached = variants.filter((one) => one.reached);
  stability.forEach((share, i) => {
    const want = reached.reduce((sum, { touched }) => sum + touched[i], 0) / reached.length;
    assert.ok(Math.abs(share - want) < 1e-6, `pixel ${i}: ${share} instead of ${want}`);
  });
  assert.ok(got.single < 1e-5, 'as the same seed alone');
  assert.deepEqual(got.curves, [false], 'the curve of several answers is none');
  assert.deepEqual(got.none, [false, false]);
  const { all } = got;
  assert.deepEqual(all.map(({ target }) => target), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].filter((c) => c !== got.before));
  assert.ok(all.filter((one) => one.reached).length >= 8 && all.every((one) => one.present));
  assert.deepEqual(all.map(({ passes }) => passes.decoder % 20 === 0 || passes.decoder === 10), Array(9).fill(true));
  const inverted = all.filter(({ passes }) => passes.decoder > passes.backward);
  assert.equal(inverted.length, 1, 'the image is inverted once');
  assert.ok(got.likeness.every(Boolean), 'each counterfactual is compared with the training data');
});

test('an image is inverted before anybody asks', { timeout: SLOW }, async () => {
  const got = await run(async ([address, kind]) => {
    const { duet, helpers, model } = globalThis;
    const image = Float32Array.from((await (await fetch(address)).json()).near.image);
    const question = { target: 9, seed: 77 };
    const made = {};
    const worker = await duet[kind].load('/fixtures/parity.safetensors');
    for (const [name, one] of Object.entries({ page: model, worker })) {
      await one.invert(image, { seed: 77 });
      const { pipelines } = await one.usage();
      const ahead = await one.explain(image, question);
      const compiled = (await one.usage()).pipelines - pipelines;
      const other = await one.explain(image, { target: 9, seed: 78 });
      made[name] = { ahead: ahead.passes, other: other.passes, compiled, values: [...ahead.counterfactualValues] };
    }
    await worker.dispose();
    // As if nobody had inverted it.
    const fresh = await duet.Duet.load('/fixtures/parity.safetensors');
    const plain = await fresh.explain(image, question);
    await fresh.dispose();
    await model.invert(image, { method: 'paper' });
    const failure = await helpers.failure(model.invert(image, { noise: 2 }));
    return { made, passes: plain.passes, failure, values: [...plain.counterfactualValues] };
  }, [SNEAKER, OTHER]);
  for (const [name, { ahead, other, compiled, values }] of Object.entries(got.made)) {
    assert.equal(ahead.decoder, got.passes.decoder - 10, `${name}: a chain alone`);
    assert.equal(other.decoder % 20, 0, `${name}: another seed is another inversion`);
    assert.equal(compiled, 0, `${name}: everything was compiled before`);
    assert.deepEqual(values, got.values, name);
  }
  assert.ok(got.failure.name === 'BadInputError' && got.failure.message.includes('noise'), got.failure.message);
});

test('labels are added and taken away', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny-colour-labels.safetensors');
    const image = Float32Array.from({ length: 3 * 81 }, (_, i) => Math.sin(0.37 * i));
    const ask = (target, more) => model.explain(image, { target, steps: 20, strength: 4, locality: 0, ...more });
    const forms = {
      plus: await ask('+WBC'),
      name: await ask('wbc'),
      number: await ask(1),
      object: await ask({ class: 'WBC' }),
      minus: await ask('-WBC'),
      away: await ask({ class: 1, present: false }),
    };
    const apart = (a, b) => helpers.apart(forms[a].counterfactualValues, forms[b].counterfactualValues);
    const all = await model.explainAll(image, { steps: 20 });
    const away = [];
    for (const [label, p] of forms.plus.before.probabilities.entries()) {
      // Without keeping the others, the label itself goes where it is sent.
      const present = p <= 0.5;
      const { after } = await ask({ class: label, present }, { keep: 0 });
      away.push(present ? after.probabilities[label] - p : p - after.probabilities[label]);
    }
    const moved = Object.values(forms).map(({ moved, before, after, target }) => {
      const changed = [...before.probabilities.keys()].filter((c) => before.probabilities[c] > 0.5 !== after.probabilities[c] > 0.5);
      return [moved, changed.filter((c) => c !== target).length];
    });
    const info = [forms.plus, forms.minus].map(({ target, present }) => [target, present]);
    const before = [...forms.plus.before.probabilities];
    await model.dispose();
    return {
      same: [apart('plus', 'name'), apart('plus', 'number'), apart('plus', 'object'), apart('minus', 'away')],
      opposite: apart('plus', 'minus'),
      info,
      away,
      moved,
      all: all.map(({ target, present }) => [target, present]),
      before,
    };
  });
  assert.deepEqual(got.same, [0, 0, 0, 0]);
  assert.ok(got.opposite > 0.05, 'to add a label is not to take it away');
  assert.deepEqual(got.info, [[1, true], [1, false]]);
  assert.ok(got.away.every((gain) => gain > 0), `labels move to where they are sent: ${got.away}`);
  for (const [told, counted] of got.moved) assert.equal(told, counted);
  assert.deepEqual(got.all, got.before.map((p, label) => [label, p <= 0.5]), 'each label flipped');
});

test('options choose their method, and strangers are named', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = helpers.signed(helpers.greys(8, 1));
    const explain = (options) => model.explain(image, { target: 1, steps: 5, ...options });
    const made = {};
    for (const [name, options] of Object.entries({
      nothing: {},
      alpha: { alpha: 30 },
      eta: { eta: 0 },
      ancestral: { eta: 'ancestral' },
      paper: { method: 'paper' },
      both: { method: 'paper', guidance: 'gradient', alpha: 1 },
      local: { method: 'local', strength: 2, noise: 0.4, seed: 3 },
    })) {
      const { method, strength, rungs } = await explain(options);
      made[name] = [method, Math.round(1000 * strength) / 1000, rungs];
    }
    const failures = {};
    for (const [name, options] of Object.entries({
      alpha: { method: 'local', alpha: 1 },
      eta: { strength: 1, method: 'local', eta: 0 },
      strength: { method: 'paper', strength: 1 },
      locality: { alpha: 60, locality: 0.1 },
      method: { method: 'magic' },
      guidance: { guidance: 'magic' },
      'strength must': { strength: -1 },
      'strength must be': { strength: NaN },
      'locality must': { locality: 3 },
      'keep must': { keep: -1 },
      'variants must': { variants: 0 },
      'variants must be': { variants: 2.5 },
      'cannot be taken away': { target: '-grey' },
      'there is no class': { target: '+purple' },
      'there is no class undefined': { target: {} },
      'present must': { target: { class: 1, present: 'yes' } },
    })) {
      failures[name] = await helpers.failure(explain(options));
    }
    failures['locality is an option'] = await helpers.failure(model.explainAll(image, { alpha: 1, locality: 0 }));
    const after = await explain({});
    await model.dispose();
    return { made, failures, after: after.method };
  });
  const local = ['local', 1.7, 4];
  assert.deepEqual(got.made, {
    nothing: got.made.nothing,
    alpha: ['paper', 30, 1],
    eta: ['paper', 60, 1],
    ancestral: ['paper', 60, 1],
    paper: ['paper', 60, 1],
    both: ['paper', 1, 1],
    local: got.made.local,
  });
  assert.deepEqual([got.made.nothing[0], got.made.nothing[2]], [local[0], local[2]]);
  assert.ok([1.7, 2.4, 3.4, 4.8].includes(got.made.nothing[1]), 'the library’s own ladder');
  assert.ok([2, 2.828, 4, 5.657].includes(got.made.local[1]), 'a ladder from 2');
  for (const [words, { name, message }] of Object.entries(got.failures)) {
    assert.equal(name, 'BadInputError', `${words}: ${name} ${message}`);
    assert.ok(message.includes(words), `${words}: ${message}`);
  }
  assert.equal(got.after, 'local', 'refused options leave the model as it was');
});
