/**
 * Elements of a page, found anew whenever something is asked of them. Questions about one element wait until it is there;
 * a click waits until a person could make it.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Milliseconds between two looks at what is waited for. */
const PAUSE = 40;
/** Milliseconds in which a page that is seen draws two frames. */
const FRAMES = 500;

/**
 * Runs in the page: the elements that steps lead to, from elements of the driver's or the whole page.
 * @param {Element[]} found @param {[string, any][]} steps
 */
function find(found, steps) {
  for (const [kind, value] of steps) {
    if (kind === 'css') found = [...new Set(found.flatMap((one) => [...one.querySelectorAll(value)]))];
    else if (kind === 'is') found = found.filter((one) => one.matches(value));
    else if (kind === 'text') found = found.filter((one) => one.textContent.replace(/\s+/g, ' ').includes(value));
    else found = found.slice(value, value === -1 ? undefined : value + 1);
  }
  return found;
}

/** Runs in the page: whether an element is to be seen. @param {HTMLElement} element */
function visible(element) {
  const { width, height } = element.getBoundingClientRect();
  return width > 0 && height > 0 && element.checkVisibility({ visibilityProperty: true });
}

/**
 * Runs in the page: where a person would press an element, or why nobody can.
 * @param {HTMLElement} element @param {typeof visible} seen
 */
function place(element, seen) {
  if (!seen(element)) return { why: 'it is not visible' };
  if (element.matches(':disabled') || element.closest('[aria-disabled=true]')) return { why: 'it is disabled' };
  const middle = () => {
    const box = [...element.getClientRects()].find(({ width, height }) => width > 0 && height > 0);
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const front = ([x, y]) => document.elementFromPoint(x, y);
  const reaches = (hit) => hit !== null && (element.contains(hit) || hit.closest('label')?.control === element);
  // Outside of the window, or under something that stays in place while the page scrolls.
  if (!reaches(front(middle()))) element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
  const [x, y] = middle();
  const hit = front([x, y]);
  if (!reaches(hit)) return { why: `${hit?.outerHTML.slice(0, 80)} is in front of it` };
  return { x, y };
}

export class Locator {
  /**
   * @param {import('./page.mjs').Page} page
   * @param {[string, any][]} steps
   * @param {string} [aria] a selector of the driver's by what screen readers are told, where steps begin
   */
  constructor(page, steps, aria) {
    this.page = page;
    this.steps = steps;
    this.aria = aria;
  }

  /** @param {[string, any]} step */
  #then(step) {
    return new Locator(this.page, [...this.steps, step], this.aria);
  }
  /** @param {string} selector */
  locator = (selector) => this.#then(['css', selector]);
  /** @param {{ hasText: string }} which */
  filter = ({ hasText }) => this.#then(['text', hasText]);
  /** @param {number} place */
  nth = (place) => this.#then(['nth', place]);
  first = () => this.nth(0);
  last = () => this.nth(-1);

  toString() {
    return [this.aria, ...this.steps.map(([kind, value]) => (kind === 'css' ? value : `${kind} ${value}`))].filter(Boolean).join(' › ');
  }

  /** Asks something of all elements at once, as many as there are. @param {Function} body @param {unknown} [argument] */
  async evaluateAll(body, argument) {
    const roots = this.aria === undefined ? [] : await this.page.tab.$$(this.aria);
    const ask = `(...words) => {
      const { steps, whole, argument } = words.pop();
      return (${body})((${find})(whole ? [document] : words, steps), argument);
    }`;
    try {
      return await this.page.call(ask, { steps: this.steps, whole: this.aria === undefined, argument }, roots);
    } finally {
      await Promise.all(roots.map((root) => root.dispose()));
    }
  }

  count = () => this.evaluateAll((/** @type {Element[]} */ all) => all.length);
  allInnerTexts = () => this.evaluateAll((/** @type {HTMLElement[]} */ all) => all.map((one) => one.innerText));
  /** All elements one by one. */
  all = async () => Array.from({ length: await this.count() }, (_, i) => this.nth(i));
  /** Whether it is there and to be seen, now. */
  isVisible = () => this.evaluateAll(`(all) => all.length > 0 && (${visible})(all[0])`);

  /**
   * Asks something of the one element, once it is there.
   * @param {Function | string} body @param {unknown} [argument]
   */
  evaluate(body, argument) {
    return this.#ready(`async (element, argument) => ({ answer: await (${body})(element, argument) })`, argument);
  }

  /**
   * Asks again and again until `body` gives an answer instead of what it still waits for.
   * @param {string} body answers `{ answer }` or `{ why }` @param {unknown} [argument]
   */
  async #ready(body, argument) {
    const ask = `async (all, argument) => all.length === 1
      ? (${body})(all[0], argument)
      : { why: all.length === 0 ? 'there is none' : undefined, many: all.length }`;
    const end = Date.now() + this.page.patience;
    for (;;) {
      const { answer, why, many } = await this.evaluateAll(ask, argument);
      if (many > 1) throw new Error(`${this} are ${many} elements; one is meant`);
      if (why === undefined) return answer;
      if (Date.now() > end) throw new Error(`waited ${this.page.patience / 1000} s for ${this}: ${why}`);
      await new Promise((done) => setTimeout(done, PAUSE));
    }
  }

  innerText = () => this.evaluate((/** @type {HTMLElement} */ one) => one.innerText);
  /** @param {string} name */
  getAttribute = (name) => this.evaluate((/** @type {Element} */ one, /** @type {string} */ key) => one.getAttribute(key), name);
  inputValue = () => this.evaluate((/** @type {HTMLInputElement} */ one) => one.value);
  isEnabled = () => this.evaluate((/** @type {Element} */ one) => !one.matches(':disabled'));
  isChecked = () => this.evaluate((/** @type {HTMLInputElement} */ one) => one.checked);
  focus = () => this.evaluate((/** @type {HTMLElement} */ one) => one.focus());
  scrollIntoViewIfNeeded = () =>
    this.evaluate((/** @type {Element} */ one) => one.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' }));
  boundingBox = () =>
    this.evaluate((/** @type {Element} */ one) => {
      const { x, y, width, height } = one.getBoundingClientRect();
      return { x, y, width, height };
    });

  /** Where it can be pressed, once it can be and stands still. */
  async #place() {
    const ask = `(element) => {
      const { why, x, y } = (${place})(element, ${visible});
      return why === undefined ? { answer: [x, y] } : { why };
    }`;
    // What the page lays out anew it does with its next frame; a hidden one has none.
    const later = `async (element) => {
      await Promise.race([
        new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
        new Promise((done) => setTimeout(done, ${FRAMES})),
      ]);
      return (${ask})(element);
    }`;
    const end = Date.now() + this.page.patience;
    for (let before = await this.#ready(ask); ; ) {
      const now = await this.#ready(later);
      if (now.join() === before.join()) return now;
      if (Date.now() > end) throw new Error(`waited ${this.page.patience / 1000} s for ${this} to stand still`);
      before = now;
    }
  }

  /** Presses it with the mouse. */
  async click() {
    const [x, y] = await this.#place();
    await this.page.tab.mouse.click(x, y);
  }

  /** @param {boolean} wanted */
  async #tick(wanted) {
    if ((await this.isChecked()) === wanted) return;
    await this.click();
    assert.equal(await this.isChecked(), wanted, `${this} after a click`);
  }
  check = () => this.#tick(true);
  uncheck = () => this.#tick(false);

  /** Writes into a field what stands there then, by keys; a slider, which has no text, is set. @param {string} text */
  async fill(text) {
    const types = await this.#ready(
      `(one, text) => {
        if (!(${visible})(one)) return { why: 'it is not visible' };
        if (!one.matches('input:enabled, textarea:enabled')) return { why: 'it is no field that can be written in' };
        one.focus();
        if (one.type !== 'range') {
          one.select();
          return { answer: true };
        }
        one.value = text;
        if (one.value !== text) throw new Error(\`a slider cannot be set to \${text}\`);
        for (const type of ['input', 'change']) one.dispatchEvent(new Event(type, { bubbles: true }));
        return { answer: false };
      }`,
      text,
    );
    if (!types) return;
    if (text === '') await this.page.keyboard.press('Delete');
    else await this.page.tab.keyboard.type(text);
    assert.equal(await this.inputValue(), text, `${this} after typing`);
  }

  /** Chooses of a list by value, label or place. @param {string | { label?: string, index?: number }} which */
  selectOption(which) {
    const wanted = typeof which === 'string' ? { value: which } : which;
    return this.#ready(
      `(list, wanted) => {
        if (!(${visible})(list) || list.matches(':disabled')) return { why: 'it cannot be used' };
        const found = [...list.options].find((one, i) =>
          !one.disabled && Object.entries(wanted).every(([key, value]) => (key === 'index' ? i : one[key]) === value));
        if (found === undefined) return { why: \`it has no option \${JSON.stringify(wanted)}\` };
        list.focus();
        list.value = found.value;
        found.selected = true;
        for (const type of ['input', 'change']) list.dispatchEvent(new Event(type, { bubbles: true }));
        return {};
      }`,
      wanted,
    );
  }

  /** Chooses files, as with the browser's dialogue. @param {{ name: string, buffer: Buffer } | { name: string, buffer: Buffer }[]} files */
  async setInputFiles(files) {
    const folder = mkdtempSync(path.join(tmpdir(), 'duet-files-'));
    const names = [files].flat().map(({ name, buffer }) => {
      const file = path.join(folder, name);
      writeFileSync(file, buffer);
      return file;
    });
    await this.evaluate(() => undefined);
    assert.ok(this.aria === undefined && this.steps.length === 1, 'files go to an element of one selector');
    const input = await this.page.tab.$(this.steps[0][1]);
    await input.uploadFile(...names);
    await input.dispose();
    // The page reads them when it likes.
    this.page.later(() => rmSync(folder, { recursive: true }));
  }
}
