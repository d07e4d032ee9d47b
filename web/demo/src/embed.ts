/** The page that shows the element as other pages have it, and what it takes. */

import { DuetExplainerElement } from 'duet-diffusion/element';
import { byId } from './dom';

const CODE = `<script type="module">
  import 'duet-diffusion/element';
</script>

<duet-explainer src="model.safetensors" image="shirt.png"></duet-explainer>

<script>
  document.querySelector('duet-explainer').addEventListener('explain', ({ detail }) => {
    console.log(detail.reached, detail.after.label, detail.counterfactualValues);
  });
</script>`;

const heard = byId('heard');
const explainer = byId<DuetExplainerElement>('explainer');

/** Tells of an event in a line. */
function tell(text: string): void {
  heard.textContent = text;
}

byId('code').textContent = CODE;
byId('copy').addEventListener('click', () => {
  navigator.clipboard.writeText(CODE).then(
    () => tell('Copied.'),
    () => tell('The browser did not let the page copy: mark the text and copy it.'),
  );
});

explainer.addEventListener('load', () => {
  document.documentElement.dataset.ready = 'true';
  tell('load: the model is there');
});
explainer.addEventListener('classify', ({ detail }) => tell(`classify: ${detail.label}`));
explainer.addEventListener('explain', ({ detail }) => {
  tell(`explain: ${detail.reached ? 'reached' : 'not reached'}, ${detail.after.label}`);
});
explainer.addEventListener('error', ({ detail }) => tell(`error: ${detail.code}`));
