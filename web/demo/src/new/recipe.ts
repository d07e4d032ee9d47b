/** The recipe of a new model: a few fields with defaults, and all of it as JSON. */

import type { ModelConfig, Recipe } from 'duet-diffusion';
import { byId } from '../dom';
import { PageError } from '../messages';

/** Networks that a page can train, from the least; widths are multiples of the groups. */
const NETWORKS: Record<string, ModelConfig> = {
  tiny: { num_channels: 8, num_groups: 4 },
  // The one of the shipped models.
  small: { num_channels: 24, num_groups: 8 },
  medium: { num_channels: 48, num_groups: 8 },
};

const size = byId<HTMLSelectElement>('new-size');
const channels = byId<HTMLSelectElement>('new-channels');
const network = byId<HTMLSelectElement>('new-network');
const steps = byId<HTMLInputElement>('new-steps');
const batch = byId<HTMLInputElement>('new-batch');
const rate = byId<HTMLInputElement>('new-rate');
const flip = byId<HTMLInputElement>('new-flip');
const save = byId<HTMLInputElement>('new-save');
const samples = byId<HTMLInputElement>('new-samples');
const text = byId<HTMLTextAreaElement>('new-recipe');
const note = byId('new-recipe-note');

/** How often a field or the text was changed by hand. */
let edited = 0;
/** What is wrong with the text; nothing while it is a recipe. */
let wrong: string | undefined;
/** Whether it came from a file: what images would have it say is not put into it. */
let opened = false;

/** The recipe of the fields. */
function ofFields(): Recipe {
  const pixels = Number(size.value);
  return {
    model: {
      image_size: pixels,
      in_channels: Number(channels.value),
      ...NETWORKS[network.value],
      num_res_blocks: 1,
      channel_mult: levelsOf(pixels),
      // Attention in the middle alone: at full size it would cost more than all convolutions.
      attention_resolutions: [],
      classifier_dropout: 0.2,
    },
    train: {
      steps: steps.valueAsNumber,
      batch_size: batch.valueAsNumber,
      learning_rate: rate.valueAsNumber,
      lr_schedule: 'cosine',
      warmup_steps: 100,
      ema_rate: 0.995,
      ema_warmup: true,
      classifier_input: 'both',
      classifier_loss_scaling: 0.1,
      flip: flip.checked,
      seed: 1,
      log_every: 1,
      eval_every: 100,
      eval_images: 200,
      sample_every: samples.valueAsNumber,
      sample_steps: '25',
      save_every: save.valueAsNumber,
    },
  };
}

/** What the command's recipes, and pages, have where nothing is said. */
const DEFAULTS = { steps: 100_000, batch_size: 128, learning_rate: 1e-4, save_every: 500, sample_every: 5000 };

/** Shows in the fields what the recipe says of them. */
function show({ model = {}, train = {} }: Recipe): void {
  const choose = (select: HTMLSelectElement, value: unknown): void => {
    const found = [...select.options].some((option) => option.value === String(value));
    // What the fields do not offer is told as being of the recipe.
    select.value = found ? String(value) : '';
  };
  choose(size, model.image_size ?? 28);
  choose(channels, model.in_channels ?? 1);
  // What is chosen is written again when another field changes: all of it has to be what the recipe says.
  const known = Object.entries(NETWORKS).find(([, one]) => Object.entries(one).every(([key, value]) => model[key as keyof ModelConfig] === value));
  choose(network, known?.[0] ?? '');
  const fields = { steps, batch_size: batch, learning_rate: rate, save_every: save, sample_every: samples };
  for (const [name, input] of Object.entries(fields) as [keyof typeof DEFAULTS, HTMLInputElement][]) {
    // Who opens a recipe that leaves steps out is not to see the steps of the one before.
    input.value = String(train[name] ?? DEFAULTS[name]);
  }
  flip.checked = train.flip ?? false;
}

/** The recipe as it is written, or what is wrong with it. */
export function recipeOf(names: string[]): Recipe {
  if (wrong !== undefined) throw new PageError(`The recipe is no JSON: ${wrong}. Mend it under “Recipe”, or change a field to write it anew.`);
  const recipe = JSON.parse(text.value) as Recipe;
  // Before there are images it says what it says.
  if (names.length === 0) return recipe;
  return { ...recipe, model: { ...recipe.model, num_classes: names.length, class_names: names } };
}

/** Takes a recipe that was opened. */
export function useRecipe(recipe: Recipe): void {
  edited += 1;
  opened = true;
  text.value = written(recipe);
  told(undefined);
  show(recipe);
}

/** How often something was chosen or written by hand. */
export function edits(): number {
  return edited;
}

/** Proposes a size and colours for images. Who looks at images for it meanwhile asks {@link edits}: nothing is to change under a hand. */
export function proposeShape(pixels: number, colours: number): void {
  if (opened) return;
  const fitting = [...size.options].map(({ value }) => Number(value)).filter((value) => value > 0);
  // The next larger one, so that nothing is lost; of photographs a size that a page can train.
  const best = fitting.find((value) => value >= pixels) ?? 32;
  size.value = String(best);
  channels.value = String(colours);
  write();
}

/** Widths of the levels of images of a size. */
function levelsOf(pixels: number): number[] {
  return pixels >= 64 ? [1, 2, 2, 2] : [1, 2, 2];
}

/** A recipe as text, with short lists on one line. */
export function written(recipe: Recipe): string {
  return JSON.stringify(recipe, null, 2).replace(/\[\s+([^[\]{}]*?)\s+\]/g, (_, inside: string) => `[${inside.replace(/\s+/g, ' ')}]`);
}

/** Puts what the fields say into the recipe that is written; what else it says stays. */
function write(): void {
  const numbers = [steps, batch, rate, save, samples];
  // A field that is being typed into is no number for a moment.
  if (numbers.some((field) => Number.isNaN(field.valueAsNumber))) return;
  const before = wrong === undefined && text.value !== '' ? (JSON.parse(text.value) as Recipe) : ofFields();
  const model = { ...before.model };
  // Where the recipe says what no field offers, the field is empty.
  if (size.value !== '' && Number(size.value) !== model.image_size) {
    model.image_size = Number(size.value);
    model.channel_mult = levelsOf(model.image_size);
  }
  if (channels.value !== '') model.in_channels = Number(channels.value);
  if (network.value !== '') Object.assign(model, NETWORKS[network.value]);
  const train = {
    ...before.train,
    steps: steps.valueAsNumber,
    batch_size: batch.valueAsNumber,
    learning_rate: rate.valueAsNumber,
    flip: flip.checked,
    save_every: save.valueAsNumber,
    sample_every: samples.valueAsNumber,
  };
  text.value = written({ ...before, model, train });
  told(undefined);
}

function told(error: string | undefined): void {
  wrong = error;
  note.textContent = error === undefined ? '' : `This is no JSON: ${error}.`;
  text.setAttribute('aria-invalid', String(error !== undefined));
}

/** Wires fields and text. */
export function startRecipe(): void {
  const fields: HTMLElement[] = [size, channels, network, steps, batch, rate, flip, save, samples];
  for (const field of [...fields, text]) field.addEventListener('input', () => (edited += 1));
  for (const field of fields) field.addEventListener('input', write);
  text.addEventListener('input', () => {
    try {
      const recipe = JSON.parse(text.value) as Recipe;
      if (typeof recipe !== 'object' || recipe === null || Array.isArray(recipe)) throw new SyntaxError('it must be an object of sections');
      told(undefined);
      show(recipe);
    } catch (error) {
      told(error instanceof Error ? error.message : String(error));
    }
  });
  write();
}
