/** Keeps the shown probabilities in step with the image. */

import { showBars } from './bars';
import { byId } from './dom';
import { editorImage } from './editor';
import { report } from './notice';
import { hasModel, withModel } from './session';

/** While drawing, the model is asked when the pen has rested this long. */
const REST_MS = 180;

const list = byId('probabilities');
let timer: ReturnType<typeof setTimeout> | undefined;
let running = false;
let again = false;

/** Asks the model what the image is, at once or after a rest; `then` hears of the order of the classes. */
export function classifySoon(drawing: boolean, then: (probabilities: Float32Array) => void): void {
  if (!hasModel()) return;
  clearTimeout(timer);
  if (drawing) timer = setTimeout(() => void classifyNow(then), REST_MS);
  else void classifyNow(then);
}

async function classifyNow(then: (probabilities: Float32Array) => void): Promise<void> {
  // One question at a time: what changed meanwhile is asked about when the answer is there.
  if (running) {
    again = true;
    return;
  }
  running = true;
  list.setAttribute('aria-busy', 'true');
  try {
    do {
      again = false;
      await withModel(async (model) => {
        const answer = await model.classify(editorImage());
        if (again) return;
        showBars(list, answer, model.info.classNames);
        then(answer.probabilities);
      });
    } while (again);
  } catch (error) {
    report(error);
  } finally {
    running = false;
    list.removeAttribute('aria-busy');
  }
}
