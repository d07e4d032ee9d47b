/** Small helpers for the page's elements. */

/** The element of an id; the page is broken without it, so a missing one throws. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found as T;
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Fills a select, keeping its choice where it is still offered by the same words: another model numbers otherwise. */
export function fillSelect(select: HTMLSelectElement, options: [value: string, text: string][]): void {
  const before = select.selectedOptions[0]?.textContent;
  select.replaceChildren(...options.map(([value, text]) => make('option', { value, textContent: text })));
  const kept = options.find(([, text]) => text === before);
  if (kept) select.value = kept[0];
}

/** Shows a range's value beside its label, now and at every change. */
export function showRange(id: string, text: (value: number) => string): () => void {
  const range = byId<HTMLInputElement>(id);
  const output = byId<HTMLOutputElement>(`${id}-value`);
  const update = (): void => {
    output.textContent = text(range.valueAsNumber);
    range.setAttribute('aria-valuetext', output.textContent);
  };
  range.addEventListener('input', update);
  update();
  return update;
}

/** Takes what is chosen by a file input. */
export function onFiles(input: HTMLInputElement, take: (files: File[]) => void): void {
  input.addEventListener('change', () => {
    const files = [...(input.files ?? [])];
    // Choosing the same again must be a change again.
    input.value = '';
    if (files.length > 0) take(files);
  });
}

/** Hands a file to the browser's downloads. */
export function download(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  make('a', { href: address, download: name }).click();
  // The download has its own hold on the bytes by then.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
