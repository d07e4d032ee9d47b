/** Where a counterfactual may change the image: painted, or chosen as a half. */

import { onStroke, paint } from './brush';
import { byId } from './dom';
import { percent } from './format';
import { PageError } from './messages';
import { contextOf, pixelsOf, show } from './picture';

const canvas = byId<HTMLCanvasElement>('mask');
const keep = byId<HTMLInputElement>('keep');
const brush = byId<HTMLInputElement>('brush');
/** Letters that need no escaping in an address, and the pixels that one of them holds. */
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const BITS = 6;
/** What was painted: opaque where the image may change. */
const painted = document.createElement('canvas');
let behind: ImageData | undefined;

/** The tint of the free part; the same orange that "after" has everywhere on the page. */
const TINT = [232, 118, 52] as const;

/** Shows the image with the kept part dark and the free part tinted. */
function redraw(): void {
  if (!behind) return;
  const { width, height } = behind;
  const image = new ImageData(new Uint8ClampedArray(behind.data), width, height);
  const free = pixelsOf(painted).data;
  let pixels = 0;
  for (let i = 0; i < image.data.length; i += 4) {
    const isFree = (free[i + 3] ?? 0) > 127;
    if (isFree) pixels++;
    for (let c = 0; c < 3; c++) {
      const value = image.data[i + c] ?? 0;
      image.data[i + c] = isFree ? 0.6 * value + 0.4 * (TINT[c] ?? 0) : 0.4 * value;
    }
  }
  show(canvas, image);
  const share = pixels / (width * height);
  canvas.setAttribute('aria-label', `Where the image may change: ${share > 0 ? percent(share) : 'nowhere'}`);
}

/** Puts another image behind the mask. */
export function maskOver(image: HTMLCanvasElement): void {
  behind = pixelsOf(image);
  if (painted.width !== image.width || painted.height !== image.height) {
    painted.width = image.width;
    painted.height = image.height;
  }
  if (keep.checked) redraw();
}

/** The mask for the library, or nothing where the whole image may change. */
export function maskValues(): Uint8Array | undefined {
  if (!keep.checked) return undefined;
  const data = pixelsOf(painted).data;
  const values = new Uint8Array(data.length / 4);
  for (let i = 0; i < values.length; i++) values[i] = (data[4 * i + 3] ?? 0) > 127 ? 255 : 0;
  if (!values.includes(255)) {
    throw new PageError('Nothing may change yet: paint on the image, or choose a half, where it may.');
  }
  return values;
}

/** The mask in letters for a link: its size, then six pixels a letter. */
export function maskText(): string | undefined {
  if (!keep.checked) return undefined;
  const data = pixelsOf(painted).data;
  let text = `${painted.width}.`;
  for (let from = 0; from < data.length / 4; from += BITS) {
    let word = 0;
    for (let bit = 0; bit < BITS; bit++) if ((data[4 * (from + bit) + 3] ?? 0) > 127) word |= 1 << bit;
    text += LETTERS[word];
  }
  return text;
}

/** Sets the mask as a link says; without one, the whole image may change. */
export function setMaskText(text: string | undefined): void {
  const [width, letters = ''] = text?.split('.') ?? [];
  const size = Number(width);
  keep.checked = Number.isInteger(size) && size > 0 && letters.length === Math.ceil((size * size) / BITS);
  if (keep.checked) {
    const mask = new ImageData(size, size);
    for (let i = 0; i < size * size; i++) {
      const word = LETTERS.indexOf(letters[Math.floor(i / BITS)] ?? 'A');
      if (word >= 0 && (word >> (i % BITS)) & 1) mask.data.fill(255, 4 * i, 4 * i + 4);
    }
    show(painted, mask);
  }
  toggle();
}

function toggle(): void {
  byId('mask-tools').hidden = !keep.checked;
  if (keep.checked) redraw();
}

/** Wires the mask's tools. */
export function startMask(): void {
  keep.addEventListener('change', toggle);
  // The browser may have kept the tick over a reload.
  toggle();
  onStroke(canvas, (...piece) => {
    paint(contextOf(painted), piece, (2 * brush.valueAsNumber * painted.width) / 28, '#fff');
    redraw();
  });
  byId('mask-tools').addEventListener('click', (event) => {
    const region = (event.target as HTMLElement).dataset.region;
    if (!region) return;
    const { width, height } = painted;
    const context = contextOf(painted);
    context.clearRect(0, 0, width, height);
    context.fillStyle = '#fff';
    const halves: Record<string, [number, number, number, number]> = {
      top: [0, 0, width, height / 2],
      bottom: [0, height / 2, width, height / 2],
      left: [0, 0, width / 2, height],
      right: [width / 2, 0, width / 2, height],
    };
    const half = halves[region];
    if (half) context.fillRect(...half);
    redraw();
  });
}
