/**
 * Recipes of the command as the package reads them: TOML or JSON, without what is of files.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLOW, libraryFolders, site } from './browser.mjs';
import { toml } from './fashion.mjs';

const pages = site(libraryFolders);

/** What a program can follow. */
const RECIPE = {
  model: { image_size: 14, num_channels: 8, num_groups: 4, channel_mult: [1, 2], attention_resolutions: [], class_names: [] },
  train: { steps: 20, learning_rate: 0.0003, lr_schedule: 'cosine', classifier_input: 'both', flip: true },
  augment: { crop: true },
};

test('recipes of the command are read, without what is of files', { timeout: SLOW }, async () => {
  await pages.visit('/pages/library.html', {}, async (visit) => {
    const { page } = visit;
    await visit.ready();
    const file = toml({ data: { kind: 'idx', path: 'data', ground: 9 }, ...RECIPE, train: { ...RECIPE.train, keep_best: 'loss' } });
    const wrong = [file.replace('num_channels', 'num_chanels'), '{"model": 3}', '[model', '{', '[train]\nsteps = 3'];
    const got = await page.evaluate(
      async ({ text, mistakes }) => {
        const { duet, helpers } = globalThis;
        const read = await duet.readRecipe(text);
        const again = await duet.readRecipe(new Blob([JSON.stringify(read.recipe)]));
        const fields = [];
        for (const mistake of mistakes) fields.push(await duet.readRecipe(mistake).catch(({ code, field }) => [code, field]));
        fields.push([(await helpers.failure(duet.readRecipe(3))).code]);
        return { read, again, fields };
      },
      { text: file, mistakes: wrong },
    );
    assert.deepEqual(got.read.recipe, { data: { ground: 9 }, ...RECIPE });
    assert.deepEqual(got.read.leftOut.map(({ field, value }) => [field, value]), [['data.kind', 'idx'], ['data.path', 'data'], ['train.keep_best', 'loss']]);
    assert.ok(got.read.leftOut.every(({ reason }) => reason.length > 10));
    assert.deepEqual(got.again, { recipe: got.read.recipe, leftOut: [] });
    assert.deepEqual(got.fields, [...['model.num_chanels', 'model', 'recipe', 'recipe', 'model'].map((field) => ['bad-input', field]), ['bad-input']]);
  });
});
