/** Keeps the shown probabilities in step with the image. */

import type { Classification } from 'duet-diffusion';
import { showBars } from './bars';
import { byId } from './dom';
import { editorImage } from './editor';
import { share } from './format';
import { isGone } from './messages';
import { report } from './notice';
import { hasModel, withModel } from './session';

/** While drawing, the model is asked when the pen has rested this long. */
const REST_MS = 180;

const list = byId('probabilities');
const likeness = byId('likeness');
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
        showLikeness(answer, model.info.ground);
        then(answer.probabilities);
      }).catch((error: unknown) => {
        // The model that took its place is asked next.
        if (!isGone(error)) throw error;
      });
    } while (again);
  } catch (error) {
    // What is shown was said of another image.
    list.replaceChildren();
    likeness.textContent = '';
    report(error);
  } finally {
    running = false;
    list.removeAttribute('aria-busy');
  }
}

/** Says where the classes mean little: of a picture unlike what the model was trained on, or one on the opposite ground. */
function showLikeness({ typicality, oppositeGround }: Classification, ground: number): void {
  const words: string[] = [];
  if (typicality?.unlike) {
    words.push(
      `This image is unlike those that the model was trained on (beyond ${share(typicality.percentile)} of them): ` +
        'the classes above say little.',
    );
  }
  if (oppositeGround) {
    const [own, known] = ground < 128 ? ['light', 'dark'] : ['dark', 'light'];
    words.push(`The image’s ground is ${own}, and the model knows things on a ${known} one: try “Invert”.`);
  }
  const text = words.join(' ');
  if (likeness.textContent !== text) likeness.textContent = text;
}
