/** The large picture of a result: the original fading into the counterfactual, with what changed outlined. */

import type { Explanation } from 'duet-diffusion';
import { type Changes, drawOutlines, shareOf } from './changes';
import { byId } from './dom';
import { percent } from './format';
import { contextOf, show } from './picture';

/** Side of the layer of outlines, in pixels of the screen's finest. */
const SIDE = 672;

const picture = byId<HTMLCanvasElement>('result-stage');
const layer = byId<HTMLCanvasElement>('result-outline');
const slider = byId<HTMLInputElement>('compare');
const toggle = byId<HTMLInputElement>('outline');
let present: { explanation: Explanation; changes: Changes } | undefined;

/** Draws what the slider says. */
function draw(): void {
  if (!present) return;
  const { original, counterfactual } = present.explanation;
  const way = slider.valueAsNumber / 100;
  const mixed = new ImageData(original.width, original.height);
  mixed.data.forEach((_, i) => {
    mixed.data[i] = (1 - way) * (original.data[i] ?? 0) + way * (counterfactual.data[i] ?? 0);
  });
  show(picture, mixed);
  const words = way === 0 ? 'original' : way === 1 ? 'counterfactual' : `${percent(way)} of the way`;
  slider.setAttribute('aria-valuetext', words);
  const { stable, unstable } = present.changes;
  const outlined = toggle.checked ? `; outlined: the ${percent(shareOf(stable) + shareOf(unstable))} that change` : '';
  picture.setAttribute('aria-label', `${words[0]?.toUpperCase()}${words.slice(1)}${outlined}`);
}

/** Draws the outlines, or takes them away. */
function drawLayer(): void {
  layer.hidden = !toggle.checked;
  if (!present) return;
  layer.width = layer.height = SIDE;
  drawOutlines(contextOf(layer), present.changes, SIDE);
}

/** Shows an explanation, from its original on. */
export function showStage(explanation: Explanation, changes: Changes): void {
  present = { explanation, changes };
  slider.value = '0';
  draw();
  drawLayer();
}

/** Wires the slider and the tick for outlines. */
export function startStage(): void {
  slider.addEventListener('input', draw);
  toggle.addEventListener('change', () => {
    drawLayer();
    draw();
  });
}
