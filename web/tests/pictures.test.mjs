/**
 * What a person sees is what the model gets: files and pictures of every kind against what the library makes of them
 * natively, and files that are refused.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { SLOW, engine, libraryPage } from './browser.mjs';
import { FIXTURES, fixture } from './paths.mjs';
import { png } from './png.mjs';

const { run } = libraryPage({ share: true });

/** One grey level: browsers decode JPEG and multiply opacity in with roundings of their own. */
const LEVELS = 1;

for (const kind of ['Duet', 'DuetWorker']) {
  test(`${kind}: picture files are seen as the command sees them`, { timeout: SLOW }, async () => {
    const files = JSON.parse(readFileSync(fixture('picture-files.json'), 'utf8'));
    assert.ok(files.length >= 20);
    const got = await run(
      async ({ kind, files }) => {
        const { duet, helpers } = globalThis;
        const grey = await duet[kind].load('/fixtures/tiny.safetensors');
        const colour = await duet[kind].load('/fixtures/tiny-colour.safetensors');
        const planes = ({ data }, channels) =>
          Array.from({ length: channels }, (_, c) => [...data.filter((_, i) => i % 4 === c)]).flat();
        const rows = [];
        for (const file of files) {
          const blob = await (await fetch(`/fixtures/${file.name}`)).blob();
          // By the browser's own ways: colour profiles are applied there, and they do not know of the file.
          const element = new Image();
          element.src = URL.createObjectURL(blob);
          await element.decode();
          const canvas = document.createElement('canvas');
          [canvas.width, canvas.height] = [element.naturalWidth, element.naturalHeight];
          canvas.getContext('2d', { willReadFrequently: true }).drawImage(element, 0, 0);
          const frame = new VideoFrame(element, { timestamp: 0 });
          const inputs = { blob, pixels: await duet.readPicture(blob) };
          if (file.name.startsWith('profile')) {
            const managed = helpers.apart(planes(await colour.prepare(element), 3), file.colour);
            if (managed < 20) rows.push({ name: `${file.name}: its profile changes nothing`, apart: Infinity });
          } else {
            Object.assign(inputs, { bitmap: await createImageBitmap(blob), element, canvas });
            // What a video's frame is made of is rounded to its own kind of colours where it is transparent.
            if (!file.name.includes('transparent')) inputs.frame = frame;
          }
          for (const [way, input] of Object.entries(inputs)) {
            const apart = [
              helpers.apart(planes(await grey.prepare(input), 1), file.grey),
              helpers.apart(planes(await colour.prepare(input), 3), file.colour),
            ];
            rows.push({ name: `${file.name} as ${way}`, apart: Math.max(...apart) });
          }
          frame.close();
        }
        await grey.dispose();
        await colour.dispose();
        return rows;
      },
      { kind, files },
    );
    const far = got.filter(({ apart }) => !(apart <= LEVELS));
    assert.deepEqual(far, [], `of ${got.length} pictures`);
    console.log(`${got.length} pictures, at most ${Math.max(...got.map(({ apart }) => apart))} levels apart`);
  });
}

test('what classify, explain and train get is what prepare shows', { timeout: SLOW }, async (t) => {
  if (engine.lacks.halves) t.diagnostic(`without pictures of half-precise floats: ${engine.lacks.halves}`);
  const got = await run(async (halved) => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const file = await (await fetch('/fixtures/held-6.png')).blob();
    const shown = await model.prepare(file);
    const [whole, seen] = await model.classifyAll([file, shown]);
    const { original } = await model.explain(file, { target: 1, steps: 2, noise: 0.5 });
    const train = { labels: [0, 1], steps: 1, batchSize: 2 };
    const { losses } = await model.train({ ...train, images: [file, file] });
    const again = await duet.Duet.load('/fixtures/tiny.safetensors');
    const other = await again.train({ ...train, images: [shown, shown] });
    // Half-precise levels, and those of another colour space, are colours too.
    const white = [new ImageData(new Uint8ClampedArray(4 * 64).fill(255), 8, 8, { colorSpace: 'display-p3' })];
    if (halved) white.push(new ImageData(new Float16Array(4 * 64).fill(1), 8, 8, { pixelFormat: 'rgba-float16' }));
    const levels = [];
    for (const image of white) levels.push(...new Set((await model.prepare(image)).data));
    await model.dispose();
    await again.dispose();
    return {
      classified: helpers.apart(whole.probabilities, seen.probabilities),
      explained: helpers.apart(original.data, shown.data),
      trained: helpers.apart(losses, other.losses),
      levels,
    };
  }, !engine.lacks.halves);
  assert.deepEqual(got, { classified: 0, explained: 0, trained: 0, levels: Array(engine.lacks.halves ? 1 : 2).fill(255) });
});

/** A picture of 30,000 × 30,000 pixels by its header, in a few bytes. */
function giants() {
  const grey = png(4, 4, () => 9);
  grey.writeUInt32BE(30_000, 16);
  grey.writeUInt32BE(30_000, 20);
  const frame = Buffer.from([0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0x75, 0x30, 0x75, 0x30, 1, 1, 0x11, 0]);
  const gif = Buffer.from('GIF89a\x30\x75\x30\x75\0\0\0,', 'latin1');
  const bmp = Buffer.alloc(80);
  bmp.write('BM');
  bmp.writeUInt32LE(40, 14);
  bmp.writeInt32LE(30_000, 18);
  bmp.writeInt32LE(-30_000, 22);
  const webp = Buffer.alloc(40);
  webp.write('RIFF\x20\0\0\0WEBPVP8X', 'latin1');
  webp.writeUIntLE(29_999, 24, 3);
  webp.writeUIntLE(29_999, 27, 3);
  const avif = Buffer.alloc(80);
  avif.write('\0\0\0\x20ftypavif', 'latin1');
  avif.write('ispe', 40);
  avif.writeUInt32BE(30_000, 48);
  avif.writeUInt32BE(30_000, 52);
  return { 'giant.png': grey, 'giant.jpg': frame, 'giant.gif': gif, 'giant.bmp': bmp, 'giant.webp': webp, 'giant.avif': avif };
}

test('files that are cut, too large or no pictures are refused in words', { timeout: SLOW }, async () => {
  const whole = (name) => readFileSync(`${FIXTURES}/${name}`);
  fixture('held-1.jpg');
  const [jpg, photo] = [whole('large.jpg'), whole('colour.png')];
  const middle = photo.length >> 1;
  const files = {
    'half.jpg': [jpg.subarray(0, jpg.length >> 1), /half\.jpg.*data end early/],
    'no-end.jpg': [jpg.subarray(0, -40), /no-end\.jpg.*data end early/],
    'header.jpg': [jpg.subarray(0, 300), /header\.jpg.*data end early/],
    'half.png': [photo.subarray(0, middle), /half\.png.*data end early/],
    'short.png': [photo.subarray(0, 20), /short\.png.*data end early/],
    'broken.png': [Buffer.from(photo).fill(7, middle, middle + 30), /broken\.png is damaged/],
    'empty.png': [Buffer.alloc(0), /empty\.png is empty/],
    'notes.txt': [Buffer.from('no picture at all, only words about one'), /notes\.txt is no picture/],
    'BM.txt': [Buffer.from('BM begins a bitmap, and this sentence of more than sixty-four letters too.'), /BM\.txt is no picture/],
  };
  for (const [name, bytes] of Object.entries(giants())) {
    files[name] = [bytes, new RegExp(`${name} has 30000×30000 pixels, 900 megapixels; pictures of up to 200`)];
  }
  const sent = Object.entries(files).map(([name, [bytes]]) => [name, [...bytes.subarray(0, 4e6)]]);
  const got = await run(async (sent) => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const answers = {};
    for (const [name, bytes] of sent) {
      const file = new File([Uint8Array.from(bytes)], name);
      const failures = [await helpers.failure(duet.readPicture(file)), await helpers.failure(model.classify(file))];
      answers[name] = failures.map(({ name, message }) => `${name}: ${message}`);
    }
    // One bad file of many: it is named, and the model works on.
    const good = await (await fetch('/fixtures/colour.png')).blob();
    const { best } = await model.classify(good);
    await model.dispose();
    return { answers, best };
  }, sent);
  for (const [name, [, expected]] of Object.entries(files)) {
    for (const answer of got.answers[name]) {
      assert.match(answer, /^BadInputError: /, name);
      assert.match(answer, expected);
    }
  }
  assert.ok(got.best >= 0);
});

test('whole files of the other kinds pass the check of their ends', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet } = globalThis;
    const canvas = new OffscreenCanvas(40, 30);
    canvas.getContext('2d').fillRect(0, 0, 20, 30);
    const seen = {};
    for (const type of ['image/png', 'image/jpeg', 'image/webp']) {
      const { width, height } = await duet.readPicture(await canvas.convertToBlob({ type }));
      seen[type] = [width, height];
    }
    // Two frames of one pixel, after an extension and a table of two colours.
    const frame = [0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0];
    const gif = [...'GIF89a'].map((c) => c.charCodeAt(0)).concat([1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    const control = [0x21, 0xf9, 4, 0, 10, 0, 0, 0];
    const bytes = Uint8Array.from([...gif, ...control, ...frame, ...control, ...frame, 0x3b]);
    const read = await duet.readPicture(new Blob([bytes]));
    seen.gif = [read.width, read.height, ...read.data];
    const bmp = new Uint8Array(54 + 8 * 2);
    const view = new DataView(bmp.buffer);
    bmp.set([66, 77]);
    for (const [at, value] of [[2, bmp.length], [10, 54], [14, 40], [18, 2], [22, 2]]) view.setUint32(at, value, true);
    view.setUint16(26, 1, true);
    view.setUint16(28, 24, true);
    bmp.fill(200, 54);
    seen.bmp = [...new Set((await duet.readPicture(new Blob([bmp]))).data)];
    return seen;
  });
  assert.deepEqual(got['image/png'], [40, 30]);
  assert.deepEqual(got['image/jpeg'], [40, 30]);
  assert.deepEqual(got['image/webp'], [40, 30]);
  assert.deepEqual(got.gif.slice(0, 2), [1, 1]);
  assert.deepEqual(got.bmp, [200, 255]);
});

test('arrays and masks out of range are refused', { timeout: SLOW }, async () => {
  const got = await run(async () => {
    const { duet, helpers } = globalThis;
    const model = await duet.Duet.load('/fixtures/tiny.safetensors');
    const image = new Float32Array(64);
    const levels = Float32Array.from(helpers.greys(8));
    const mask = new Float32Array(64).fill(255);
    const answers = [
      await helpers.failure(model.classify(levels)),
      await helpers.failure(model.explain(image, { target: 1, steps: 2, mask })),
    ];
    await model.dispose();
    return answers.map(({ name, message }) => `${name}: ${message}`);
  });
  assert.match(got[0], /^BadInputError: .*floats are in −1\.\.1/);
  assert.match(got[1], /^BadInputError: a mask has values from 0 to 1.*255/);
});
