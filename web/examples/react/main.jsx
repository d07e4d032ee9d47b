// A counterfactual in a component. The model is loaded once, in a worker, and goes with the component.
import { StrictMode, useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { DuetWorker } from 'duet-diffusion';

function useModel(address) {
  const [model, setModel] = useState();
  const [error, setError] = useState();
  useEffect(() => {
    const controller = new AbortController();
    const loading = DuetWorker.load(address, { signal: controller.signal });
    loading.then(setModel, (error) => error.code !== 'aborted' && setError(error));
    return () => {
      controller.abort();
      loading.then((model) => model.dispose(), () => undefined);
    };
  }, [address]);
  return { model, error };
}

function Picture({ image }) {
  const canvas = useRef(null);
  useEffect(() => canvas.current.getContext('2d').putImageData(image, 0, 0), [image]);
  return <canvas ref={canvas} width={image.width} height={image.height} />;
}

function Explanation({ model }) {
  const [why, setWhy] = useState();
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    (async () => {
      const [image] = await model.sample({ class: 0, seed: 1, signal });
      const { probabilities } = await model.classify(image, { signal });
      const [, target] = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
      setWhy(await model.explain(image, { target, signal }));
    })().catch((error) => ['aborted', 'disposed'].includes(error.code) || setWhy({ error }));
    return () => controller.abort();
  }, [model]);
  useEffect(() => {
    if (why?.after) document.title = `done: ${why.before.label}, then ${why.after.label}`;
  }, [why]);
  if (!why) return <p>…</p>;
  if (why.error) return <p>{why.error.message}</p>;
  return (
    <>
      <Picture image={why.original} />
      <Picture image={why.counterfactual} />
      <p>
        {why.before.label}, then {why.after.label}
      </p>
    </>
  );
}

function App() {
  const { model, error } = useModel('model.safetensors');
  if (error) return <p>{error.message}</p>;
  return model ? <Explanation model={model} /> : <p>…</p>;
}

createRoot(document.querySelector('#root')).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
