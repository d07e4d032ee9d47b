/**
 * The library's calls on a tiny model: what they accept, what they return, that they are reproducible.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, engine, libraryPage } from './browser.mjs';
import { fixture } from './paths.mjs';

const { run } = libraryPage({ model: 'tiny.safetensors', share: true });

test('a model loads from an address, a Blob, an ArrayBuffer and bytes, with progress', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers, model } = globalThis;
    const address = '/fixtures/tiny.safetensors';
    const buffer = await (await fetch(address)).arrayBuffer();
    const image = helpers.signed(helpers.greys(8));
    const want = await model.classify(image);
    const sources = {
      url: new URL(address, location.href),
      blob: new Blob([buffer]),
      buffer,
      bytes: new Uint8Array(buffer.slice(0)),
    };
    const answers = {};
    for (const [name, source] of Object.entries(sources)) {
      const progress = [];
      const loaded = await duet.Duet.load(source, { onProgress: (done, total) => progress.push([done, total]) });
      const { probabilities } = await loaded.classify(image);
      answers[name] = { apart: helpers.apart(probabilities, want.probabilities), progress };
      await loaded.dispose();
    }
    return { answers, size: buffer.byteLength, info: model.info };
  });
  for (const [name, { apart, progress }] of Object.entries(got.answers)) {
    assert.equal(apart, 0, name);
    const grows = progress.every(([done], i) => i === 0 || done >= progress[i - 1][0]);
    assert.ok(grows, `progress of ${name} never falls`);
  }
  assert.deepEqual(got.answers.url.progress.at(-1), [got.size, got.size]);
  const { info } = got;
  assert.deepEqual([info.imageSize, info.channels, info.numClasses, info.head], [8, 1, 3, 'multiclass']);
  assert.deepEqual(info.classNames, ['dark', 'grey', 'light']);
  assert.equal(info.diffusionSteps, 1000);
  assert.ok(info.parameters > 1000 && info.adapter.length > 0, JSON.stringify(info));
  console.log(`adapter: ${info.adapter}, parameters: ${info.parameters}`);
});

test('every kind of picture gets the same answer', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const answers = [];
    for (let number = 0; number < 3; number += 1) {
      const levels = helpers.greys(8, number);
      const image = helpers.picture(levels, 8);
      const canvas = helpers.canvas(image);
      const offscreen = new OffscreenCanvas(8, 8);
      offscreen.getContext('2d').putImageData(image, 0, 0);
      const element = new Image();
      element.src = URL.createObjectURL(await offscreen.convertToBlob());
      await element.decode();
      const inputs = {
        floats: helpers.signed(levels),
        clamped: levels,
        bytes: new Uint8Array(levels),
        image,
        canvas,
        offscreen,
        bitmap: await createImageBitmap(image),
        element,
      };
      const one = {};
      for (const [name, input] of Object.entries(inputs)) one[name] = await model.classify(input);
      const all = await model.classifyAll(Object.values(inputs));
      answers.push({ one, all });
    }
    const none = await model.classifyAll([]);
    // More than fit one batch.
    const many = await model.classifyAll(Array.from({ length: 19 }, (_, i) => helpers.greys(8, i % 3)));
    return { answers, none, many };
  });
  const firsts = got.answers.map(({ one }) => one.floats);
  for (const { one, all } of got.answers) {
    const want = one.floats.probabilities;
    const sum = want.reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum - 1) < 1e-5, `probabilities add up to ${sum}`);
    assert.equal(one.floats.label, ['dark', 'grey', 'light'][one.floats.best]);
    Object.entries(one).forEach(([name, { probabilities }], i) => {
      want.forEach((p, c) => {
        assert.ok(Math.abs(p - probabilities[c]) < 1e-4, `${name}: ${probabilities} instead of ${want}`);
        assert.ok(Math.abs(p - all[i].probabilities[c]) < 1e-4, `${name} in a batch`);
      });
    });
  }
  assert.notDeepEqual([...firsts[0].probabilities], [...firsts[1].probabilities], 'other images, other answers');
  assert.deepEqual(got.none, []);
  assert.equal(got.many.length, 19);
  got.many.forEach(({ probabilities }, i) => {
    probabilities.forEach((p, c) => assert.ok(Math.abs(p - firsts[i % 3].probabilities[c]) < 1e-4, `image ${i}`));
  });
});

test('pictures of any size, colour and opacity are seen as the command sees them', { timeout: SLOW }, async () => {
  const pictures = JSON.parse(readFileSync(fixture('pictures.json'), 'utf8'));
  assert.ok(pictures.length >= 5);
  const got = await run(async (pictures) => {
    const { helpers, model } = globalThis;
    const grey = (image) => image.data.filter((_, i) => i % 4 === 0);
    const [apart, same] = [[], []];
    for (const { width, height, rgba, levels } of pictures) {
      const image = new ImageData(Uint8ClampedArray.from(rgba), width, height);
      const canvas = helpers.canvas(image);
      for (const source of [image, canvas, await createImageBitmap(image)]) {
        const { original } = await model.explain(source, { target: 0, steps: 5, noise: 0.2 });
        apart.push(helpers.apart(grey(original), levels));
      }
      // Of a canvas the model sees what the browser itself says is on it.
      const told = await model.prepare(canvas.getContext('2d').getImageData(0, 0, width, height));
      same.push(helpers.apart((await model.prepare(canvas)).data, told.data));
    }
    return { apart, same };
  }, pictures);
  // A canvas keeps colours multiplied by their opacity, rounded.
  got.apart.forEach((apart, i) => {
    const bound = i % 3 === 0 ? 1 : engine.rounding;
    assert.ok(apart <= bound, `picture ${Math.floor(i / 3)}: grey levels differ by ${apart}`);
  });
  assert.deepEqual(got.same, pictures.map(() => 0));
});

test('a model that wants the ground around its pictures gets them as the command makes them', { timeout: SLOW }, async () => {
  const pictures = JSON.parse(readFileSync(fixture('pictures.json'), 'utf8'));
  const got = await run(async (pictures) => {
    const { duet, helpers } = globalThis;
    const framed = await duet.Duet.load('/fixtures/tiny-framed.safetensors');
    const grey = (image) => image.data.filter((_, i) => i % 4 === 0);
    const apart = [];
    for (const { width, height, rgba, framed: levels } of pictures) {
      const shown = await framed.prepare(new ImageData(Uint8ClampedArray.from(rgba), width, height));
      apart.push(helpers.apart(grey(shown), levels));
    }
    const { ground, fit, resize, resizeTo, imageSize } = framed.info;
    const [{ oppositeGround }] = await framed.classifyAll([new ImageData(new Uint8ClampedArray(64 * 4), 8, 8)]);
    await framed.dispose();
    return { apart, info: { ground, fit, resize, resizeTo, imageSize }, oppositeGround };
  }, pictures);
  assert.deepEqual(got.info, { ground: 200, fit: 'pad', resize: 'bilinear', resizeTo: 5, imageSize: 8 });
  assert.deepEqual(got.apart, pictures.map(() => 0), 'the same levels, bit for bit');
  assert.equal(got.oppositeGround, false, 'what is transparent is ground');
});

test('samples follow from their seed', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const steps = [];
    const make = async (options) => (await model.sample({ steps: 5, ...options })).map(({ data }) => data);
    const first = await make({ class: 1, seed: 3, onStep: ({ done, total }) => steps.push([done, total]) });
    const apart = (other) => helpers.apart(first[0], other[0]);
    const several = await make({ class: ['dark', 2, 'light'], seed: 1 });
    const count = await make({ count: 4, seed: 2 ** 53 - 1 });
    const ddim = await make({ class: 1, seed: 3, eta: 0 });
    return {
      steps,
      same: apart(await make({ class: 1, seed: 3 })),
      named: apart(await make({ class: 'grey', seed: 3 })),
      other: apart(await make({ class: 1, seed: 4 })),
      ddim: apart(ddim),
      ddimAgain: helpers.apart(ddim[0], (await make({ class: 1, seed: 3, eta: 0 }))[0]),
      respaced: apart(await make({ class: 1, seed: 3, steps: '2,2,1' })),
      lengths: [first, several, count].map((list) => list.length),
      opaque: first[0].every((level, i) => i % 4 !== 3 || level === 255),
      distinct: helpers.apart(count[0], count[1]),
    };
  });
  assert.deepEqual(got.steps, [1, 2, 3, 4, 5].map((done) => [done, 5]));
  assert.equal(got.same, 0, 'the same seed');
  assert.equal(got.named, 0, 'a class by its name');
  assert.ok(got.other > 0, 'another seed');
  assert.ok(got.ddim > 0 && got.ddimAgain === 0 && got.respaced > 0, JSON.stringify(got));
  assert.deepEqual(got.lengths, [1, 3, 4]);
  assert.ok(got.opaque && got.distinct > 0);
});

test('a counterfactual of the paper has all its parts and keeps what the mask keeps', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const levels = helpers.greys(8, 1);
    const image = helpers.signed(levels);
    const steps = [];
    const options = { target: 2, steps: 10, noise: 0.5, seed: 5, method: 'paper' };
    const onStep = ({ done, total, curve }) => steps.push([done, total, curve.length]);
    const free = await model.explain(image, { ...options, onStep });
    const again = await model.explain(image, { ...options, target: 'light' });
    const half = Float32Array.from({ length: 64 }, (_, i) => (i % 8 < 4 ? 0 : 1));
    const masked = async (mask) => (await model.explain(image, { ...options, mask })).counterfactualValues;
    const left = (values) => values.filter((_, i) => i % 8 < 4);
    const right = (values) => values.filter((_, i) => i % 8 >= 4);
    const byFloats = await masked(half);
    const byLevels = await masked(Uint8Array.from(half, (v) => v * 255));
    const byPicture = await masked(helpers.picture(Uint8ClampedArray.from(half, (v) => v * 255), 8));
    const [first, last] = [await model.classify(image), await model.classify(free.counterfactualValues)];
    return {
      steps,
      free: { ...free, original: [...free.original.data], counterfactual: [...free.counterfactual.data] },
      pictures: ['original', 'noised', 'counterfactual', 'difference'].map((p) => [free[p].width, free[p].height]),
      original: helpers.apart(free.original.data.filter((_, i) => i % 4 === 0), levels),
      again: helpers.apart(free.counterfactualValues, again.counterfactualValues),
      changed: helpers.apart(free.counterfactualValues, image),
      difference: helpers.apart(free.differenceValues, free.counterfactualValues.map((v, i) => v - image[i])),
      zero: helpers.apart(await masked(new Float32Array(64)), image),
      ones: helpers.apart(await masked(new Float32Array(64).fill(1)), free.counterfactualValues),
      left: helpers.apart(left(byFloats), left(image)),
      right: helpers.apart(right(byFloats), right(image)),
      alike: Math.max(helpers.apart(byFloats, byLevels), helpers.apart(byFloats, byPicture)),
      before: helpers.apart(first.probabilities, free.before.probabilities),
      after: helpers.apart(last.probabilities, free.after.probabilities),
    };
  });
  assert.deepEqual(got.steps, [1, 2, 3, 4, 5].map((done) => [done, 5, done]));
  assert.equal(got.free.curve.length, 5);
  assert.ok(got.free.curve.every((p) => p >= 0 && p <= 1));
  assert.equal(got.free.target, 2);
  assert.deepEqual(got.pictures, Array(4).fill([8, 8]));
  assert.ok(got.original <= 1, 'the original as it came in');
  assert.equal(got.again, 0, 'the same seed, the target by its name');
  assert.ok(got.changed > 0.05, 'something changed');
  assert.ok(got.difference < 1e-5 && got.before < 1e-5 && got.after < 1e-3, JSON.stringify(got));
  assert.ok(got.zero <= 2 / 255, `nothing may change, but ${got.zero} did`);
  assert.ok(got.ones < 1e-5, 'a mask of ones is none');
  assert.ok(got.left <= 2 / 255 && got.right > 0.05, `${got.left} in the kept half, ${got.right} in the free one`);
  assert.ok(got.alike < 1e-5, 'masks of any kind');
});

test('calls queue up', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { helpers, model } = globalThis;
    const image = helpers.signed(helpers.greys(8, 1));
    const options = { target: 0, steps: 10, noise: 0.3, seed: 1 };
    const alone = await model.explain(image, options);
    const order = [];
    const noted = (name, call) => call.finally(() => order.push(name));
    const [explained, , classified] = await Promise.all([
      noted('explain', model.explain(image, options)),
      noted('sample', model.sample({ steps: 2 })),
      noted('classify', model.classify(image)),
    ]);
    return {
      order,
      same: helpers.apart(alone.counterfactualValues, explained.counterfactualValues),
      before: helpers.apart(classified.probabilities, alone.before.probabilities),
    };
  });
  assert.deepEqual(got.order, ['explain', 'sample', 'classify']);
  assert.equal(got.same, 0);
  assert.ok(got.before < 1e-5);
});

test('needs are known before anything is allocated', { timeout: SLOW }, async () => {
  const [one, four] = await run(() => Promise.all([globalThis.model.estimate(), globalThis.model.estimate({ batch: 4 })]));
  assert.deepEqual([one.batch, four.batch], [1, 4]);
  assert.ok(one.weights > 0 && one.weights === four.weights);
  for (const kind of ['classify', 'step', 'explain', 'train']) {
    for (const key of ['bytes', 'multiplyAdds', 'dispatches']) {
      assert.ok(one[kind][key] > 0, `${kind}.${key}`);
    }
    assert.ok(four[kind].bytes > one[kind].bytes && four[kind].multiplyAdds > one[kind].multiplyAdds, kind);
  }
});

test('the self-test passes', { timeout: SLOW }, () => run(() => globalThis.model.selfTest()));
