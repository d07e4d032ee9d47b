/**
 * The worker behind {@link DuetWorker}: a {@link Duet} that is called by messages.
 * @module
 */
import { Duet } from './duet.js';
import { DuetError, plainError } from './errors.js';
import type { Progress, Request, Response } from './protocol.js';

const scope = globalThis as unknown as {
  postMessage(message: Response): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<Request>) => void): void;
};
/** Calls that can be stopped, by number. */
const running = new Map<number, AbortController>();
let model: Duet | undefined;

/** Options with what does not travel put back: reading each step's probabilities is for who hears of them. */
function received<T extends { watched: boolean }>({ watched, ...rest }: T, onStep: (progress: Progress) => void, signal: AbortSignal) {
  return { ...rest, signal, ...(watched && { onStep }) };
}

async function answer(request: Exclude<Request, { abort: true }>, signal: AbortSignal): Promise<unknown> {
  const onStep = (progress: Progress) => scope.postMessage({ id: request.id, progress });
  if (request.call === 'load') {
    const [source, options] = request.arguments;
    const onProgress = (loaded: number, total: number | undefined) => onStep({ loaded, total });
    model = await Duet.load(source, { ...options, onProgress, signal });
    return model.info;
  }
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

scope.addEventListener('message', ({ data: request }) => {
  if ('abort' in request) {
    running.get(request.id)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(request.id, controller);
  answer(request, controller.signal)
    .then(
      // What is known of the model may have changed: it is on another GPU, or trained.
      (result) => scope.postMessage({ id: request.id, result, ...(model && { info: model.info }) }),
      (error: unknown) =>
        scope.postMessage({ id: request.id, error: plainError(error), ...(model && { info: model.info }) }),
    )
    .finally(() => running.delete(request.id));
});
