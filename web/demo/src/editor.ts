/** The image being explained: a sample or picture, and what was drawn over it. */

import { onStroke, paint } from './brush';
import { byId } from './dom';
import { blankCanvas, contextOf, copyOf, drawSquare, invert, pixelsOf } from './picture';

const canvas = byId<HTMLCanvasElement>('draw');
const brush = byId<HTMLInputElement>('brush');

let source = blankCanvas(28);
let name = 'empty';
/** Whether the canvas holds more than the source. */
let edited = false;
let grey = true;
const listeners: ((drawing: boolean) => void)[] = [];

/** Hears of every change, and whether it is part of a stroke, so that more of them follow at once. */
export function onImage(listener: (drawing: boolean) => void): void {
  listeners.push(listener);
}

function changed(drawing = false): void {
  canvas.setAttribute('aria-label', `The image: ${name}`);
  for (const listener of listeners) listener(drawing);
}

function redraw(): void {
  drawSquare(canvas, source, grey);
  edited = false;
}

/** Shows a picture. */
export function setImage(picture: HTMLCanvasElement, label: string): void {
  source = copyOf(picture);
  name = label;
  redraw();
  changed();
}

/** Fits the canvas to a model's images. What was drawn is kept, scaled. */
export function fitEditor(size: number, channels: number): void {
  if (canvas.width === size && grey === (channels === 1)) return;
  if (edited) source = copyOf(canvas);
  grey = channels === 1;
  canvas.width = canvas.height = size;
  redraw();
}

/** The image for the model: the source itself, which the library resizes better, or what was drawn. */
export function editorImage(): ImageData {
  return pixelsOf(edited ? canvas : source);
}

/** A copy of the image as it is shown. */
export function editorCopy(): HTMLCanvasElement {
  return copyOf(canvas);
}

/** Its name: a label, a file's name, or "drawing". */
export function editorName(): string {
  return name;
}

/** Wires the canvas and its tools. */
export function startEditor(): void {
  onStroke(canvas, (...piece) => {
    const tone = document.querySelector<HTMLInputElement>('input[name=tone]:checked')?.value ?? '255';
    // The brush is measured in pixels of a 28×28 image, whatever the model's size.
    const width = (brush.valueAsNumber * canvas.width) / 28;
    paint(contextOf(canvas), piece, width, `rgb(${tone} ${tone} ${tone})`);
    if (!edited) name = name === 'empty' ? 'drawing' : `${name}, drawn over`;
    edited = true;
    changed(true);
  });
  byId('clear').addEventListener('click', () => setImage(blankCanvas(canvas.width), 'empty'));
  byId('invert').addEventListener('click', () => {
    if (edited) source = copyOf(canvas);
    invert(source);
    redraw();
    changed();
  });
  redraw();
}
