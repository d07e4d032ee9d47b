/**
 * The element's own tree: what there is to see and to press, without a word of what happens then.
 * @module
 */
import { style } from './style.js';
import type { ExplainerWords } from './words.js';

/** An element with properties and children. */
function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  part: string,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: Node[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  if (part !== '') made.setAttribute('part', part);
  made.append(...children);
  return made;
}

/** A picture with its name below. */
function figure(part: string): { figure: HTMLElement; canvas: HTMLCanvasElement; caption: HTMLElement } {
  const canvas = make('canvas', part);
  canvas.setAttribute('role', 'img');
  const caption = make('figcaption', 'caption');
  return { figure: make('figure', '', {}, canvas, caption), canvas, caption };
}

/** Shows pixels at their own size; the sheet enlarges them. */
function paint(canvas: HTMLCanvasElement, image: ImageData, label: string): void {
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext('2d')?.putImageData(image, 0, 0);
  canvas.setAttribute('aria-label', label);
}

/** What is to be seen of an explanation. */
export interface Shown {
  original: ImageData;
  counterfactual: ImageData;
  difference: ImageData;
  verdict: string;
}

/** The tree, with what an element has to reach of it. */
export class View {
  readonly file = make('input', '', { type: 'file', accept: 'image/*' });
  readonly target = make('select', 'target', { disabled: true });
  readonly explain = make('button', 'explain', { type: 'button', className: 'primary', disabled: true });
  readonly cancel = make('button', 'cancel', { type: 'button', hidden: true });
  readonly drop: HTMLElement;
  readonly #hint = make('span', 'hint');
  readonly #canvas = make('canvas', 'image', { hidden: true });
  readonly #sees = make('p', 'decision', { className: 'sees' });
  readonly #progress = make('progress', 'progress', { max: 1, hidden: true });
  readonly #question = make('label', 'question', { className: 'question' });
  readonly #strip: HTMLElement;
  readonly #figures = [figure('original'), figure('counterfactual'), figure('difference')] as const;
  readonly #verdict = make('p', 'verdict', { className: 'verdict' });
  readonly #error = make('p', 'error-message', { className: 'error' });

  constructor(
    root: ShadowRoot,
    readonly words: () => ExplainerWords,
  ) {
    style(root);
    this.#canvas.setAttribute('aria-hidden', 'true');
    this.drop = make('label', 'drop', { className: 'drop' }, this.file, this.#canvas, this.#hint);
    // Spoken as they change: what the model sees and what came of a question; failures at once.
    this.#sees.setAttribute('role', 'status');
    this.#verdict.setAttribute('role', 'status');
    this.#error.setAttribute('role', 'alert');
    this.#strip = make('div', 'strip', { className: 'strip', hidden: true }, ...this.#figures.map((one) => one.figure));
    const actions = make('div', 'actions', { className: 'actions' }, this.explain, this.cancel, this.#progress);
    const ask = make('div', 'ask', { className: 'ask' }, this.#sees, this.#question, actions);
    root.replaceChildren(
      make('div', 'box', { className: 'box' }, this.drop, ask, this.#strip, this.#verdict, this.#error),
    );
    this.spell();
  }

  /** Writes all that stands still anew. */
  spell(): void {
    const words = this.words();
    this.#hint.textContent = words.drop;
    this.file.setAttribute('aria-label', words.choose);
    this.#question.replaceChildren(words.target, ' ', this.target);
    this.explain.textContent = words.explain;
    this.cancel.textContent = words.cancel;
    const names = [words.original, words.counterfactual, words.difference];
    this.#figures.forEach(({ caption }, i) => (caption.textContent = names[i] ?? ''));
  }

  /** Shows the image as the model sees it; nothing empties the field. */
  image(image: ImageData | undefined): void {
    this.#canvas.hidden = image === undefined;
    this.#hint.hidden = image !== undefined;
    this.drop.classList.toggle('filled', image !== undefined);
    if (image) paint(this.#canvas, image, '');
  }

  /** What the model sees, or what is under way. */
  sees(text: string): void {
    if (this.#sees.textContent !== text) this.#sees.textContent = text;
  }

  /** The classes to ask for: value and words of each, and which is chosen. */
  targets(options: [value: string, words: string][], chosen: string | undefined): void {
    this.target.replaceChildren(...options.map(([value, text]) => make('option', '', { value, textContent: text })));
    if (chosen !== undefined) this.target.value = chosen;
  }

  /** Whether a question may be asked, and whether one is being answered. */
  enable(ready: boolean, busy: boolean): void {
    // The keyboard's place would be lost with what is disabled or hidden while it is there.
    const root = this.explain.getRootNode() as ShadowRoot;
    const [within, stopping] = [root.activeElement === this.explain, root.activeElement === this.cancel];
    this.target.disabled = !ready;
    this.explain.disabled = !ready || busy;
    this.cancel.hidden = !busy;
    if (busy && within) this.cancel.focus();
    if (!busy && stopping) this.explain.focus();
    this.#progress.hidden = !busy;
  }

  /** How far something is, 0 to 1; nothing: not known. */
  progress(share: number | undefined, label: string): void {
    this.#progress.hidden = false;
    this.#progress.setAttribute('aria-label', label);
    if (share === undefined) this.#progress.removeAttribute('value');
    else this.#progress.value = share;
  }

  /** Shows a counterfactual beside its original; nothing takes it away. */
  result(shown: Shown | undefined): void {
    this.#strip.hidden = shown === undefined;
    this.#verdict.textContent = shown?.verdict ?? '';
    if (!shown) return;
    const words = this.words();
    const [original, counterfactual, difference] = this.#figures;
    paint(original.canvas, shown.original, words.original);
    paint(counterfactual.canvas, shown.counterfactual, words.counterfactual);
    paint(difference.canvas, shown.difference, `${words.difference}: ${words.differenceKey}`);
  }

  /** Says what failed; nothing takes it away. */
  error(text: string): void {
    this.#error.textContent = text;
  }
}
