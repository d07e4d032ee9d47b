/**
 * `<duet-explainer>`: a model, an image and a question in a page, without a line of script.
 * @module
 */
import { Duet } from '../duet.js';
import { AbortedError, BadInputError, DuetError } from '../errors.js';
import { findClass } from '../options.js';
import type { Classification, DuetModel, ExplainOptions, Explanation, ImageInput, ModelInfo } from '../types.js';
import { DuetWorker } from '../worker-client.js';
import { View } from './view.js';
import { ENGLISH, percent, type ExplainerWords } from './words.js';

/** Where there is no document, as on a server, the module can still be imported. */
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

/** What the element's events carry. */
export interface DuetExplainerEventMap {
  /** A model is there. */
  load: CustomEvent<ModelInfo>;
  /** An image was classified. */
  classify: CustomEvent<Classification>;
  /** A counterfactual was made. */
  explain: CustomEvent<Explanation>;
  /** Something failed; stopping on request is no failure. */
  error: CustomEvent<DuetError>;
}

/** Its own events, and those of every element. */
type Events = Omit<HTMLElementEventMap, keyof DuetExplainerEventMap> & DuetExplainerEventMap;

/** Listeners know what their event carries. */
export interface DuetExplainerElement {
  addEventListener<K extends keyof Events>(
    type: K,
    listener: (this: DuetExplainerElement, event: Events[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

/** Numbers that attributes may give. */
const NUMBERS = ['steps', 'strength', 'locality', 'noise', 'seed'] as const;

/**
 * Drop an image, choose a class, and see original, counterfactual and difference.
 *
 * | attribute | |
 * |---|---|
 * | `src` | address of the model, a `.safetensors` file |
 * | `image` | address of the first image |
 * | `target` | class that is chosen first, by number or name; default the runner-up. Of several labels `-NAME` or `+NAME` |
 * | `steps`, `strength`, `locality`, `noise`, `seed` | as of {@link DuetModel.explain} |
 * | `thread` | `main`: not in a worker |
 *
 * Events `load`, `classify`, `explain`, `error` ({@link DuetExplainerEventMap}) rise through the page. CSS parts: `box`, `drop`, `hint`,
 * `image`, `ask`, `decision`, `question`, `target`, `actions`, `explain`, `cancel`, `progress`, `strip`, `original`, `counterfactual`,
 * `difference`, `caption`, `verdict`, `error-message`. Custom properties: `--duet-accent`, `--duet-on-accent`, `--duet-background`,
 * `--duet-ink`, `--duet-soft`, `--duet-line`, `--duet-error`, `--duet-radius`, `--duet-font`.
 */
export class DuetExplainerElement extends Base {
  /** Attributes that are heard when they change. */
  static readonly observedAttributes = ['src', 'image', 'target'];

  readonly #view: View;
  #words: ExplainerWords = ENGLISH;
  #model: DuetModel | undefined;
  /** Whether the model is the element's to free. */
  #own = false;
  #loading: AbortController | undefined;
  #running: AbortController | undefined;
  #image: ImageInput | undefined;
  /** Counts images and models: what is answered to an earlier one is no news. */
  #turn = 0;
  #classification: Classification | undefined;
  #explanation: Explanation | undefined;
  /** Further options of every question. */
  options: Omit<ExplainOptions, 'target' | 'signal' | 'onStep' | 'variants'> = {};

  constructor() {
    super();
    this.#view = new View(this.attachShadow({ mode: 'open', delegatesFocus: true }), () => this.#words);
    const { file, drop, explain, cancel } = this.#view;
    file.addEventListener('change', () => {
      const [chosen] = file.files ?? [];
      // Choosing the same file again must be a change again.
      file.value = '';
      if (chosen) this.image = chosen;
    });
    for (const type of ['dragenter', 'dragover', 'dragleave', 'drop'] as const) {
      drop.addEventListener(type, (event) => this.#drag(event));
    }
    this.addEventListener('paste', (event) => {
      const [pasted] = event.clipboardData?.files ?? [];
      if (pasted) this.image = pasted;
    });
    explain.addEventListener('click', () => void this.explain().catch(() => undefined));
    cancel.addEventListener('click', () => this.cancel());
  }

  /** The model that is loaded, or one of the embedder's, which the element uses and never frees. */
  get model(): DuetModel | undefined {
    return this.#model;
  }

  set model(model: DuetModel | undefined) {
    this.#drop();
    if (model) this.#use(model, false);
  }

  /** The image; setting one classifies it. */
  get image(): ImageInput | undefined {
    return this.#image;
  }

  set image(image: ImageInput | undefined) {
    this.#image = image;
    this.#begin();
    void this.#look();
  }

  /** Words in place of the English ones; those that are not given stay. */
  get words(): ExplainerWords {
    return this.#words;
  }

  set words(words: Partial<ExplainerWords>) {
    this.#words = { ...ENGLISH, ...words };
    this.#view.spell();
    if (this.#classification) this.#answer(this.#classification);
    if (this.#explanation) this.#show(this.#explanation);
  }

  /** What the model says of the image. */
  get classification(): Classification | undefined {
    return this.#classification;
  }

  /** The last answer about the image. */
  get explanation(): Explanation | undefined {
    return this.#explanation;
  }

  /** Stops a question that is being answered. */
  cancel(): void {
    this.#running?.abort();
  }

  /**
   * Asks what would make the image the class that is chosen, or `target`, and shows the answer.
   *
   * @throws {@link BadInputError} without a model or an image; {@link AbortedError} where another question or image came; as of
   * {@link DuetModel.explain}.
   */
  async explain(target: ExplainOptions['target'] = this.#chosen): Promise<Explanation> {
    const [model, image] = [this.#model, this.#image];
    if (!model || image === undefined) throw new BadInputError(model ? 'there is no image yet' : 'there is no model yet');
    this.cancel();
    const mine = (this.#running = new AbortController());
    const turn = this.#turn;
    const { explaining } = this.#words;
    this.#view.error('');
    this.#view.enable(true, true);
    this.#view.progress(0, explaining);
    try {
      const onStep = ({ done, total }: { done: number; total: number }): void => {
        if (mine === this.#running) this.#view.progress(done / total, explaining);
      };
      const made = await model.explain(image, { ...this.#numbers(), ...this.options, target, onStep, signal: mine.signal });
      if (turn !== this.#turn || mine !== this.#running) throw new AbortedError();
      this.#explanation = made;
      this.#show(made);
      this.#tell('explain', made);
      return made;
    } catch (error) {
      if (turn === this.#turn && mine === this.#running) this.#fail(error);
      throw error;
    } finally {
      if (mine === this.#running) {
        this.#running = undefined;
        this.#view.enable(this.#ready, false);
      }
    }
  }

  connectedCallback(): void {
    const src = this.getAttribute('src');
    if (src !== null && !this.#model && !this.#loading) void this.#load(src);
    const image = this.getAttribute('image');
    if (image !== null && this.#image === undefined) void this.#fetchImage(image);
  }

  disconnectedCallback(): void {
    // An element that is moved is there again at once.
    queueMicrotask(() => {
      if (!this.isConnected && this.#own) this.#drop();
      if (!this.isConnected) this.cancel();
    });
  }

  attributeChangedCallback(name: string, before: string | null, value: string | null): void {
    if (!this.isConnected || before === value) return;
    if (name === 'src') {
      this.#drop();
      if (value !== null) void this.#load(value);
    } else if (name === 'image') {
      if (value === null) this.image = undefined;
      else void this.#fetchImage(value);
    } else if (this.#classification) {
      this.#choices(this.#classification);
    }
  }

  get #ready(): boolean {
    return this.#model?.info.denoises === true && this.#classification !== undefined;
  }

  /** What is chosen in the list: a class by its number, for a class may be called like another's number. */
  get #chosen(): number | string {
    const { value } = this.#view.target;
    return this.#model?.info.head === 'multi_label' ? value : Number(value);
  }

  #numbers(): Partial<ExplainOptions> {
    const given = NUMBERS.flatMap((name) => {
      const text = this.getAttribute(name);
      return text === null ? [] : [[name, Number(text)] as const];
    });
    return Object.fromEntries(given);
  }

  #drag(event: DragEvent): void {
    const { drop } = this.#view;
    if (event.type === 'dragleave') {
      drop.classList.remove('over');
      return;
    }
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    drop.classList.toggle('over', event.type !== 'drop');
    const [file] = event.type === 'drop' ? event.dataTransfer.files : [];
    if (file) this.image = file;
  }

  /** Forgets what was said of the image before. */
  #begin(): void {
    this.#turn += 1;
    this.cancel();
    this.#classification = undefined;
    this.#explanation = undefined;
    this.#view.error('');
    this.#view.result(undefined);
    this.#view.enable(false, false);
  }

  /** Lets the model go. */
  #drop(): void {
    this.#loading?.abort();
    this.#loading = undefined;
    this.#begin();
    // Nobody waits for it; that it could not be freed changes nothing for the next one.
    if (this.#own) this.#model?.dispose().catch((error: unknown) => console.warn(error));
    this.#model = undefined;
    this.#own = false;
    this.#view.sees('');
    this.#view.targets([], undefined);
  }

  async #load(src: string): Promise<void> {
    const mine = (this.#loading = new AbortController());
    const { signal } = mine;
    const words = this.#words;
    const onProgress = (loaded: number, total: number | undefined): void => {
      if (signal.aborted) return;
      const share = total === undefined ? undefined : loaded / total;
      this.#view.progress(share, words.loading(undefined));
      // Spoken: at quarters alone.
      this.#view.sees(words.loading(share === undefined ? undefined : Math.floor(4 * share) / 4));
    };
    this.#view.sees(words.loading(undefined));
    this.#view.progress(undefined, words.loading(undefined));
    try {
      const source = new URL(src, document.baseURI);
      const kind = this.getAttribute('thread') === 'main' ? Duet : DuetWorker;
      const model = await kind.load(source, { signal, onProgress });
      if (mine !== this.#loading) {
        await model.dispose();
        return;
      }
      this.#loading = undefined;
      this.#use(model, true);
    } catch (error) {
      if (mine !== this.#loading) return;
      this.#loading = undefined;
      this.#view.sees('');
      this.#view.enable(false, false);
      this.#fail(error);
    }
  }

  #use(model: DuetModel, own: boolean): void {
    this.#model = model;
    this.#own = own;
    this.#view.sees('');
    this.#view.enable(false, false);
    this.#tell('load', model.info);
    void this.#look();
  }

  async #fetchImage(address: string): Promise<void> {
    const turn = this.#turn;
    try {
      const answer = await fetch(new URL(address, document.baseURI));
      if (!answer.ok) throw new DuetError('network', `${address} could not be fetched: status ${answer.status}`);
      const image = await answer.blob();
      // An image that came meanwhile is the newer one.
      if (this.#image === undefined || turn === this.#turn) this.image = image;
    } catch (error) {
      this.#fail(error instanceof DuetError ? error : new DuetError('network', `${address} could not be fetched`, { cause: error }));
    }
  }

  /** Shows the image as the model sees it, and what the model sees. */
  async #look(): Promise<void> {
    const [model, image, turn] = [this.#model, this.#image, this.#turn];
    if (image === undefined) this.#view.image(undefined);
    if (!model || image === undefined) return;
    try {
      const seen = await model.prepare(image);
      if (turn !== this.#turn) return;
      this.#view.image(seen);
      const answer = await model.classify(image);
      if (turn !== this.#turn) return;
      this.#classification = answer;
      this.#answer(answer);
      this.#choices(answer);
      this.#view.enable(this.#ready, false);
      this.#tell('classify', answer);
    } catch (error) {
      if (turn === this.#turn) this.#fail(error);
    }
  }

  #answer({ label, best, probabilities }: Classification): void {
    this.#view.sees(this.#words.sees(label, percent(probabilities[best] ?? 0)));
  }

  /** Lists what the image may become: every other class, or each label flipped. */
  #choices({ best, probabilities }: Classification): void {
    const { info } = this.#model as DuetModel;
    const wanted = this.getAttribute('target');
    if (info.head === 'multi_label') {
      const options = info.classNames.map((name, c): [string, string] => {
        const present = (probabilities[c] ?? 0) <= 0.5;
        return [`${present ? '+' : '-'}${name}`, this.#words.flip(name, present)];
      });
      const bare = wanted?.replace(/^[+-]/, '') ?? '';
      const chosen = options.find(([value]) => value === wanted || value.slice(1) === bare);
      this.#view.targets(options, (chosen ?? options[0])?.[0]);
      return;
    }
    const order = [...probabilities.keys()].sort((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
    const named = wanted === null ? undefined : findClass(wanted, info);
    const chosen = named === undefined || named === best ? order.find((c) => c !== best) : named;
    const others = info.classNames.flatMap((name, c): [string, string][] => (c === best ? [] : [[String(c), name]]));
    this.#view.targets(others, chosen === undefined ? undefined : String(chosen));
  }

  #show(made: Explanation): void {
    const { info } = this.#model as DuetModel;
    this.#view.result({ ...made, verdict: this.#words.verdict(made, info) });
  }

  #fail(error: unknown): void {
    if (error instanceof AbortedError) return;
    const known = error instanceof DuetError ? error : new DuetError('internal', String(error), { cause: error });
    this.#view.error(known.message);
    this.#tell('error', known);
  }

  #tell<K extends keyof DuetExplainerEventMap>(type: K, detail: DuetExplainerEventMap[K]['detail']): void {
    this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }
}
