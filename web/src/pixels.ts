/**
 * Pixels of pictures, as people see them: turned as their EXIF says, every pixel of them, not resized.
 * @module
 */
import { BadInputError, DuetError, messageOf } from './errors.js';
import { checkSize, checkedBytes, nameOf } from './files.js';
import { host } from './host.js';
import type { ImageInput, PixelImage, Pixels } from './types.js';

/** What has pixels already. */
export type Picture = Exclude<ImageInput, Pixels | Blob>;

/** What only a browser has, and draws. */
type Drawable = Exclude<Picture, ImageData | PixelImage>;

/** Pixels of a canvas that every browser can make; larger pictures are read strip by strip. */
const STRIP_PIXELS = 1 << 24;

/** Whether pictures can be drawn here, and so read. Deno has canvases, but nothing draws on them. */
function draws(): boolean {
  if (typeof document !== 'undefined') return true;
  return typeof OffscreenCanvas !== 'undefined' && new OffscreenCanvas(1, 1).getContext('2d') !== null;
}

/** A canvas's context: off-screen where there is such a thing, as in workers. */
function context(width: number, height: number): OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D {
  const canvas =
    typeof OffscreenCanvas === 'undefined'
      ? Object.assign(document.createElement('canvas'), { width, height })
      : new OffscreenCanvas(width, height);
  const found = canvas.getContext('2d', { willReadFrequently: true }) as
    | OffscreenCanvasRenderingContext2D
    | CanvasRenderingContext2D
    | null;
  if (!found) throw new BadInputError('there is no 2d canvas to read pictures with: give { data, width, height }');
  return found;
}

/** Whether something is of one of the browser's types, by name: not every browser and no worker has them all. */
function is<T>(image: unknown, ...kinds: string[]): image is T {
  return kinds.some((kind) => {
    const type = (globalThis as Record<string, unknown>)[kind];
    return typeof type === 'function' && image instanceof type;
  });
}

function dimensions(image: Drawable): [number, number] {
  if (is<HTMLImageElement>(image, 'HTMLImageElement')) return [image.naturalWidth, image.naturalHeight];
  if (is<HTMLVideoElement>(image, 'HTMLVideoElement')) return [image.videoWidth, image.videoHeight];
  if (is<VideoFrame>(image, 'VideoFrame')) return [image.displayWidth, image.displayHeight];
  return [image.width, image.height];
}

/** Whether something is a picture: the types alone do not keep callers without TypeScript from mistakes. */
function isDrawable(image: unknown): image is Drawable {
  const drawn = ['ImageBitmap', 'OffscreenCanvas', 'HTMLCanvasElement', 'HTMLImageElement'];
  return is(image, ...drawn, 'HTMLVideoElement', 'VideoFrame');
}

/** Whether something is a picture's pixels as plain fields. */
function isPixelImage(image: unknown): image is PixelImage {
  if (typeof image !== 'object' || image === null || !('data' in image && 'width' in image && 'height' in image)) return false;
  return image.data instanceof Uint8Array || image.data instanceof Uint8ClampedArray;
}

/** RGBA pixels as a picture; outside of browsers an object with the same fields. */
export function imageData(data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number): ImageData {
  if (host().imageData) return new ImageData(data, width, height);
  return { data, width, height, colorSpace: 'srgb' } as ImageData;
}

/** An image in a form that travels to a worker: elements, canvases, frames and what only programs beside browsers have as their pixels. */
export function portable(image: ImageInput): ImageInput {
  if (ArrayBuffer.isView(image) || is(image, 'Blob')) return image;
  if (host().imageData) return is(image, 'ImageData', 'ImageBitmap') ? image : pixelsOf(image as Picture);
  const { data, width, height } = pixelsOf(image as Picture);
  return { data, width, height } as PixelImage;
}

/** Pixels of one, three or four bytes as ones of four. */
function unpacked({ data, width, height }: PixelImage): ImageData {
  const sized = [width, height].every((side) => Number.isInteger(side) && side >= 0);
  if (!sized) throw new BadInputError(`width and height of a picture must be whole numbers, are ${width} and ${height}`);
  checkSize('the picture', width, height);
  const pixels = width * height;
  const each = data.length / pixels;
  if (![1, 3, 4].includes(each)) {
    throw new BadInputError(`a picture of ${width}×${height} pixels has 1, 3 or 4 bytes for each, so ${pixels}, ${3 * pixels} or ${4 * pixels}; this one has ${data.length}`);
  }
  const rgba = new Uint8ClampedArray(4 * pixels);
  if (each === 4) {
    rgba.set(data);
  } else {
    for (let p = 0; p < pixels; p++) {
      for (let c = 0; c < 3; c++) rgba[4 * p + c] = data[each * p + (each === 3 ? c : 0)]!;
      rgba[4 * p + 3] = 255;
    }
  }
  return imageData(rgba, width, height);
}

/** The pixels of a picture of any size, in sRGB, eight bits a colour, opacity not multiplied in. */
export function pixelsOf(image: Picture): ImageData {
  if (is<ImageData>(image, 'ImageData')) {
    const plain = image.data instanceof Uint8ClampedArray && (image.colorSpace ?? 'srgb') === 'srgb';
    if (plain) return image;
    // Of another colour space, or of halves of floats: the canvas converts.
    return drawn(image.width, image.height, (on, top) => on.putImageData(image, 0, -top));
  }
  if (isPixelImage(image)) return unpacked(image);
  if (!isDrawable(image)) {
    throw new BadInputError(
      'an image must be a file, ImageData, ImageBitmap, a canvas, an <img>, a <video>, a video frame, { data, width, height } or ' +
        'a typed array',
    );
  }
  const [width, height] = dimensions(image);
  if (!(width > 0 && height > 0)) throw new BadInputError('the picture is empty, or not loaded yet');
  return drawn(width, height, (on, top) => on.drawImage(image, 0, -top));
}

/** What `draw` draws, `top` rows further up each time. */
function drawn(
  width: number,
  height: number,
  draw: (on: OffscreenCanvasRenderingContext2D | CanvasRenderingContext2D, top: number) => void,
): ImageData {
  checkSize('the picture', width, height);
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP_PIXELS / width)));
  try {
    const whole = new ImageData(width, height);
    const on = context(width, rows);
    // A canvas beyond what the browser can make stays blank without a word.
    on.fillRect(width - 1, rows - 1, 1, 1);
    if (on.getImageData(width - 1, rows - 1, 1, 1).data[3] !== 255) {
      throw new BadInputError(`this browser has no canvas as wide as the picture: ${width} pixels`);
    }
    for (let top = 0; top < height; top += rows) {
      on.clearRect(0, 0, width, rows);
      draw(on, top);
      whole.data.set(on.getImageData(0, 0, width, Math.min(rows, height - top)).data, 4 * width * top);
    }
    return whole;
  } catch (error) {
    if (error instanceof DuetError) throw error;
    throw new BadInputError(unreadable(error, `the picture of ${width}×${height} pixels`));
  }
}

/** Why the browser did not give a picture's pixels. */
function unreadable(error: unknown, name: string): string {
  const kind = error instanceof Error || error instanceof DOMException ? error.name : '';
  if (kind === 'SecurityError') {
    return `${name} is from another site, which does not let this page read it: the server must allow it (CORS)`;
  }
  if (kind === 'RangeError') return `the browser has not enough memory for ${name}`;
  return `${name} cannot be read: ${messageOf(error)}`;
}

/** What to do with a picture file where nothing decodes it. */
function undecoded(name: string): string {
  return (
    `${name} is a picture file, which nothing decodes here: give its pixels, { data, width, height } with 1, 3 or 4 bytes each, ` +
    'as packages that decode give them (sharp, pngjs, jpeg-js)'
  );
}

/**
 * Reads a picture file as the command `duet` does: turned as its EXIF says, colours as they are stored, whatever profile
 * describes them. Files that end early, larger ones than memory holds and other kinds of files are refused, in words.
 *
 * @throws {@link BadInputError}
 */
export async function readPicture(file: Blob): Promise<ImageData> {
  const bytes = await checkedBytes(file);
  if (!draws()) throw new BadInputError(undecoded(nameOf(file)));
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes as Uint8Array<ArrayBuffer>]), {
      imageOrientation: 'from-image',
      colorSpaceConversion: 'none',
      premultiplyAlpha: 'none',
    });
  } catch (error) {
    const why = messageOf(error);
    throw new BadInputError(`${nameOf(file)} is damaged, or of a kind that this browser does not decode: ${why}`);
  }
  try {
    return pixelsOf(bitmap);
  } finally {
    bitmap.close();
  }
}
