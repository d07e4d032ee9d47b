/** Recipes from files and to files: those that the command `duet train` reads, too. */

import { readRecipe, type Recipe } from 'duet-diffusion';
import { byId, download, make, onFiles } from '../dom';
import { plural } from '../format';
import { clearAlert, report, say } from '../notice';
import { chosenImages } from './classes';
import { fileName } from './kept';
import { recipeOf, useRecipe, written } from './recipe';

/** Hands a recipe to the browser's downloads. */
export function downloadRecipe(recipe: Recipe, name: string): void {
  download(new Blob([`${written(recipe)}\n`], { type: 'application/json' }), fileName(name, '.json'));
}

async function open(file: File): Promise<void> {
  clearAlert();
  const { recipe, leftOut } = await readRecipe(file);
  useRecipe(recipe);
  const words = leftOut.map(({ field, value, reason }) => `${field} = ${JSON.stringify(value)}: ${reason}`);
  byId('new-recipe-left-out').replaceChildren(...words.map((text) => make('li', { textContent: text })));
  byId('new-recipe-left-out-box').hidden = words.length === 0;
  say(`The recipe ${file.name} is there${words.length > 0 ? `, without ${plural(words.length, 'setting')} that mean nothing in a page` : ''}.`);
}

/** Wires the buttons; `name` gives the training's. */
export function startRecipeFile(name: () => string): void {
  const input = byId<HTMLInputElement>('new-recipe-open');
  onFiles(input, ([file]) => {
    if (file) open(file).catch(report);
  });
  byId('new-recipe-download').addEventListener('click', () => {
    try {
      clearAlert();
      downloadRecipe(recipeOf(chosenImages().names), name());
    } catch (error) {
      report(error);
    }
  });
}
