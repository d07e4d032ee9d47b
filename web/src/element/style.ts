/**
 * How the element looks. A sheet that is put together in script: a strict content security policy forbids style elements.
 * @module
 */

const CSS = `
:host {
  --accent: var(--duet-accent, light-dark(#2448b0, #9db7ff));
  --on-accent: var(--duet-on-accent, light-dark(#ffffff, #0e1524));
  --ink: var(--duet-ink, light-dark(#171b22, #e9ecf2));
  --soft: var(--duet-soft, light-dark(#545d6b, #a4adbb));
  --card: var(--duet-background, light-dark(#ffffff, #181c23));
  --line: var(--duet-line, light-dark(#868e9c, #747d8d));
  --wrong: var(--duet-error, light-dark(#a3201d, #ffb4ae));
  display: block;
  container-type: inline-size;
  color-scheme: light dark;
  color: var(--ink);
  font: var(--duet-font, inherit);
}
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.box {
  display: grid;
  grid-template-columns: minmax(112px, 220px) 1fr;
  gap: 16px;
  padding: 16px;
  border: 1px solid var(--line);
  border-radius: var(--duet-radius, 12px);
  background: var(--card);
}
@container (max-width: 420px) { .box { grid-template-columns: 1fr; } }
p, figure { margin: 0; }
.drop {
  position: relative;
  display: grid;
  place-items: center;
  aspect-ratio: 1;
  border: 2px dashed var(--line);
  border-radius: 8px;
  overflow: hidden;
  cursor: pointer;
}
.drop.filled { border-style: solid; }
.drop:focus-within, .drop.over { outline: 3px solid var(--accent); outline-offset: 2px; }
.drop input { position: absolute; inset: 0; opacity: 0; cursor: pointer; }
.drop span { padding: 8px; color: var(--soft); font-size: 0.85em; text-align: center; }
canvas { display: block; width: 100%; image-rendering: pixelated; }
.ask { display: grid; gap: 10px; align-content: start; min-width: 0; }
.sees { min-height: 1.5em; font-weight: 600; overflow-wrap: anywhere; }
.question, .actions { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
select, button {
  min-height: 34px;
  max-width: 100%;
  padding: 4px 12px;
  border: 1px solid var(--line);
  border-radius: 8px;
  background: transparent;
  color: inherit;
  font: inherit;
}
option { background: var(--card); color: var(--ink); }
button { cursor: pointer; }
button.primary { border-color: transparent; background: var(--accent); color: var(--on-accent); font-weight: 600; }
button:disabled, select:disabled { opacity: 0.55; cursor: default; }
select:focus-visible, button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
progress { flex: 1 1 80px; min-width: 60px; accent-color: var(--accent); }
.strip { grid-column: 1 / -1; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100px, 100%), 220px)); gap: 12px; }
.strip canvas { border-radius: 6px; outline: 1px solid color-mix(in srgb, var(--line) 45%, transparent); outline-offset: -1px; }
figcaption { margin-top: 4px; color: var(--soft); font-size: 0.85em; }
.verdict { grid-column: 1 / -1; }
.verdict:empty, .error:empty { display: none; }
.error { grid-column: 1 / -1; color: var(--wrong); }
@media (forced-colors: active) { .box, .drop { border-color: CanvasText; } }
`;

/** The one sheet of all elements of a page. */
let sheet: CSSStyleSheet | undefined;

/** Styles a root. */
export function style(root: ShadowRoot): void {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  root.adoptedStyleSheets = [sheet];
}
