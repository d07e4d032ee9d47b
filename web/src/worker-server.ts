/**
 * What a worker behind {@link DuetWorker} does: a {@link Duet} that is called by messages.
 * @module
 */
import { Duet } from './duet.js';
import { DuetError, plainError } from './errors.js';
import { Unreadable } from './evaluate.js';
import type { Client } from './host.js';
import type { Progress, Request, Supplied } from './protocol.js';
import type { ImageInput } from './types.js';

/** Who calls, once somebody is served. */
let client: Client;
/** Calls that can be stopped, by number. */
const running = new Map<number, AbortController>();
/** All calls under way. */
const answering = new Set<Promise<void>>();
/** Who waits for images, by the number of the call. */
const waiting = new Map<number, (images: Supplied[]) => void>();
/** Trainings that wait before a step, by the number of the call. */
const held = new Map<number, () => void>();
let model: Duet | undefined;

/** Images asked for at once: as many as are measured together. */
const WANTED = 8;

/** The images of a call, which the page is asked for as they are wanted. */
async function* supplied(id: number): AsyncGenerator<ImageInput> {
  for (;;) {
    const images = await new Promise<Supplied[]>((resolve) => {
      waiting.set(id, resolve);
      client.post({ id, wants: WANTED });
    });
    if (images.length === 0) return;
    // The call tells what is wrong with an image as it does of one that it reads itself.
    for (const one of images) yield 'unreadable' in one ? (new Unreadable(one.unreadable) as unknown as ImageInput) : one;
  }
}

/** Waits until the client lets a step be done. */
function go(id: number, step: number): Promise<void> {
  return new Promise((resolve) => {
    held.set(id, resolve);
    client.post({ id, before: step });
  });
}

/** Options with what does not travel put back: reading each step's probabilities is for who hears of them. */
function received<T extends { watched: boolean }>({ watched, ...rest }: T, onStep: (progress: Progress) => void, signal: AbortSignal) {
  return { ...rest, signal, ...(watched && { onStep }) };
}

async function answer(request: Extract<Request, { call: unknown }>, signal: AbortSignal): Promise<unknown> {
  const onStep = (progress: Progress) => client.post({ id: request.id, progress });
  if (request.call === 'load') {
    const [source, options] = request.arguments;
    const onProgress = (loaded: number, total: number | undefined) => onStep({ loaded, total });
    model = await Duet.load(source, { ...options, onProgress, signal });
    return model.info;
  }
  if (request.call === 'create') {
    const [recipe, options] = request.arguments;
    model = await Duet.create(recipe, { ...options, signal });
    return model.info;
  }
  if (request.call === 'checkDevice') return Duet.checkDevice({ ...request.arguments[0], onProgress: onStep, signal });
  if (!model) throw new DuetError('disposed', 'no model is loaded');
  switch (request.call) {
    case 'prepare':
      return model.prepare(...request.arguments);
    case 'classifyAll':
      return model.classifyAll(request.arguments[0], { signal });
    case 'predictNoise':
      return model.predictNoise(...request.arguments, { signal });
    case 'sample':
      return model.sample({ ...request.arguments[0], onStep, signal });
    case 'explain':
      return model.explain(request.arguments[0], received(request.arguments[1], onStep, signal));
    case 'explainAll':
      return model.explainAll(request.arguments[0], received(request.arguments[1], onStep, signal));
    case 'invert':
      return model.invert(request.arguments[0], received(request.arguments[1], onStep, signal));
    case 'train':
      return model.train({ ...request.arguments[0], onStep, signal });
    case 'trainByRecipe': {
      const [{ samples, waits, ...options }] = request.arguments;
      return model.trainByRecipe({
        ...options,
        signal,
        ...(waits && { beforeStep: (step: number) => go(request.id, step) }),
        onStep: (told) => onStep({ event: 'step', told }),
        onEvaluate: (told) => onStep({ event: 'evaluate', told }),
        ...(samples && { onSamples: (told: { step: number; images: ImageData[] }) => onStep({ event: 'samples', told }) }),
        onSave: (told) => onStep({ event: 'save', told }),
      });
    }
    case 'prepareAll':
      return model.prepareAll(supplied(request.id), { ...request.arguments[0], onProgress: onStep, signal });
    case 'evaluate': {
      const [labels, options] = request.arguments;
      return model.evaluate(supplied(request.id), labels, { ...options, onProgress: onStep, signal });
    }
    case 'export':
      return model.export(request.arguments[0]);
    case 'estimate':
      return model.estimate(request.arguments[0]);
    case 'usage':
      return model.usage();
    case 'selfTest':
      return model.selfTest();
    case 'dispose':
      return model.dispose();
  }
}

/** Ends once every call has stopped: what ends a thread of Node's or Deno's while the GPU works for it may end the program. */
async function end(): Promise<void> {
  for (const controller of running.values()) controller.abort();
  await Promise.all(answering);
  await model?.dispose();
  client.close?.();
}

function hear(request: Request): void {
  if ('end' in request) {
    void end();
    return;
  }
  if ('abort' in request) {
    running.get(request.id)?.abort();
    return;
  }
  if ('images' in request) {
    waiting.get(request.id)?.(request.images);
    waiting.delete(request.id);
    return;
  }
  if ('go' in request) {
    held.get(request.id)?.();
    held.delete(request.id);
    return;
  }
  const controller = new AbortController();
  running.set(request.id, controller);
  const answered = answer(request, controller.signal)
    .then(
      // What is known of the model may have changed: it is on another GPU, or trained.
      (result) => client.post({ id: request.id, result, ...(model && { info: model.info }) }),
      (error: unknown) =>
        client.post({ id: request.id, error: plainError(error), ...(model && { info: model.info }) }),
    )
    .finally(() => {
      running.delete(request.id);
      waiting.delete(request.id);
      held.delete(request.id);
      answering.delete(answered);
    });
  answering.add(answered);
}

/** Answers all calls of a client. */
export function serve(to: Client): void {
  client = to;
  client.listen(hear);
}
