// The widget's front end: `<duet-explainer>` on one side, the kernel's traitlets on the other.
import { DuetWorker } from 'duet-diffusion';
import 'duet-diffusion/element';
import wasm from 'inside:wasm';
import program from 'inside:worker';

/** @type {Promise<WebAssembly.Module> | undefined} */
let compiled;

/** The WebAssembly, as `build.js` packed it. */
async function unpack() {
  const stream = new Blob([wasm]).stream().pipeThrough(new DecompressionStream('gzip'));
  return WebAssembly.compile(await new Response(stream).arrayBuffer());
}

/** A model in a worker of its own, and how both go. */
async function load(source, signal) {
  compiled ??= unpack();
  const address = URL.createObjectURL(new Blob([program], { type: 'text/javascript' }));
  const worker = new Worker(address, { type: 'module' });
  const end = () => {
    worker.terminate();
    URL.revokeObjectURL(address);
  };
  try {
    return { duet: await DuetWorker.load(source, { wasm: await compiled, worker, signal }), end };
  } catch (error) {
    end();
    throw error;
  }
}

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** An image of the kernel's: a file's bytes, or levels with their shape. */
function picture({ data, shape }) {
  if (!shape) return new Blob([bytes(data)]);
  const [height, width] = shape;
  return { data: bytes(data), width, height };
}

/** Levels of an image \[H,W,C\], of as many channels as the model has. */
function levels({ data, width, height }, channels) {
  const kept = new Uint8Array(width * height * channels);
  for (let i = 0; i < kept.length; i += 1) kept[i] = data[4 * Math.floor(i / channels) + (i % channels)];
  return { data: new DataView(kept.buffer), shape: [height, width, channels] };
}

const said = ({ label, best, probabilities }) => ({ label, best, probabilities: [...probabilities] });

function render({ model, el }) {
  const explainer = document.createElement('duet-explainer');
  el.append(explainer);
  /** What is loaded, or being loaded. */
  let loaded = { end: () => undefined };
  let loading = new AbortController();

  const set = (/** @type {Record<string, unknown>} */ values) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  };
  const fail = (/** @type {Error} */ error) => set({ error: error.message });

  async function open() {
    loading.abort();
    const mine = (loading = new AbortController());
    const { bytes: given, url } = model.get('_source');
    if (!given && !url) return;
    try {
      const source = url ? new URL(url, document.baseURI) : bytes(given);
      const next = await load(source, mine.signal);
      if (mine.signal.aborted) return void next.end();
      explainer.model = next.duet;
      loaded.end();
      loaded = next;
    } catch (error) {
      if (!mine.signal.aborted) fail(error);
    }
  }

  const show = () => {
    const image = model.get('_image');
    set({ error: '', probabilities: [], classification: {}, explanation: {}, _counterfactual: {}, _original: {} });
    explainer.image = image.data ? picture(image) : undefined;
  };
  const adjust = () => {
    const { target, ...options } = model.get('options');
    if (target === undefined) explainer.removeAttribute('target');
    else explainer.setAttribute('target', target);
    explainer.options = options;
  };

  explainer.addEventListener('load', ({ detail }) => set({ error: '', info: { ...detail } }));
  explainer.addEventListener('classify', ({ detail }) => set({ classification: said(detail), probabilities: [...detail.probabilities] }));
  explainer.addEventListener('explain', ({ detail }) => {
    const { before, after, target, reached, strength, seed, meanChange, original, counterfactual } = detail;
    const { channels } = explainer.model.info;
    set({
      explanation: { before: said(before), after: said(after), target, reached, strength, seed, mean_change: meanChange },
      _original: levels(original, channels),
      _counterfactual: levels(counterfactual, channels),
    });
  });
  explainer.addEventListener('error', ({ detail }) => fail(detail));

  const hear = { 'change:_source': open, 'change:_image': show, 'change:options': adjust };
  for (const [name, heard] of Object.entries(hear)) model.on(name, heard);
  // What goes wrong is told by the element's event as well.
  const asked = ({ explain }) => void (explain && explainer.explain(explain.target).catch(() => undefined));
  model.on('msg:custom', asked);
  adjust();
  if (model.get('_image').data) show();
  void open();

  return () => {
    for (const [name, heard] of Object.entries(hear)) model.off(name, heard);
    model.off('msg:custom', asked);
    loading.abort();
    loaded.end();
    explainer.remove();
  };
}

export default { render };
