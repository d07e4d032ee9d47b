/**
 * Importing this module makes `<duet-explainer>` an element of the page.
 *
 * ```html
 * <script type="module">import 'duet-diffusion/element';</script>
 * <duet-explainer src="model.safetensors" image="shirt.png"></duet-explainer>
 * ```
 * @module
 */
import { DuetExplainerElement, type DuetExplainerEventMap } from './element/explainer.js';

export { DuetExplainerElement, type DuetExplainerEventMap };
export type { ExplainerWords } from './element/words.js';

declare global {
  interface HTMLElementTagNameMap {
    'duet-explainer': DuetExplainerElement;
  }
}

// Twice, as where two copies of this module are in a page, the first one stays; on a server there is nothing to do.
if (globalThis.customElements && !customElements.get('duet-explainer')) {
  customElements.define('duet-explainer', DuetExplainerElement);
}
