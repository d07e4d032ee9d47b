/**
 * What the tests need inside of the page, as `helpers`.
 */

/** Grey levels of a small picture, another one for each number. @param {number} size @param {number} number */
export function greys(size, number = 0) {
  const data = new Uint8ClampedArray(size * size);
  for (let i = 0; i < data.length; i += 1) {
    const [y, x] = [Math.floor(i / size), i % size];
    const shapes = [x, y, x + y, Math.abs(x - y), (x * y) % size];
    data[i] = ((shapes[number % shapes.length] * 2 + number) % size) * Math.floor(255 / (size - 1));
  }
  return data;
}

/** Grey levels as numbers in −1..1. @param {Uint8ClampedArray} levels */
export function signed(levels) {
  return Float32Array.from(levels, (level) => level / 127.5 - 1);
}

/** @param {Uint8ClampedArray} levels @param {number} size */
export function picture(levels, size) {
  const image = new ImageData(size, size);
  levels.forEach((level, i) => image.data.set([level, level, level, 255], 4 * i));
  return image;
}

/** A canvas that shows a picture. @param {ImageData} image */
export function canvas(image) {
  const element = document.createElement('canvas');
  element.width = image.width;
  element.height = image.height;
  element.getContext('2d').putImageData(image, 0, 0);
  return element;
}

/** Largest difference of two lists; infinite where they are not alike. @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function apart(a, b) {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i += 1) {
    const difference = Math.abs(a[i] - b[i]);
    if (!(difference <= most)) most = Number.isNaN(difference) ? Infinity : difference;
  }
  return most;
}

/** How a call fails: what its error looks like, or that it did not fail. @param {Promise<unknown> | (() => unknown)} call */
export async function failure(call) {
  try {
    await (typeof call === 'function' ? call() : call);
    return { name: 'none', code: 'none', message: 'the call succeeded', typed: false, kind: false };
  } catch (error) {
    const { DuetError } = globalThis.duet;
    const { name, code, message } = error;
    const known = globalThis.duet[name];
    return {
      name,
      code,
      message,
      typed: error instanceof DuetError,
      kind: typeof known === 'function' && error instanceof known,
    };
  }
}

/**
 * How long a timer of 10 ms waited for its turn while something ran, in milliseconds: `longest`, and `usual`, in the wait
 * around half of all moments. The longest alone says little: a machine with two cores that compiles and runs shaders on
 * both may keep any thread waiting once, while work on the page's thread would come with every step and be usual.
 * @template T
 * @param {() => Promise<T>} body
 */
export async function timerGaps(body) {
  /** @type {number[]} */
  const gaps = [];
  let last = performance.now();
  const tick = () => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  };
  const timer = setInterval(tick, 10);
  const answer = await body();
  tick();
  clearInterval(timer);
  // Weighted by time: a wait of a second counts as much as a hundred of 10 ms.
  const sorted = gaps.sort((a, b) => a - b);
  const total = sorted.reduce((sum, gap) => sum + gap, 0);
  let [sum, at] = [0, 0];
  while (at < sorted.length - 1 && sum + sorted[at] < total / 2) sum += sorted[at++];
  return { longest: sorted.at(-1), usual: sorted[at], ticks: sorted.length, total, answer };
}

/** The browser's own way to a device, whatever a page puts in its place. */
const ownDevice = globalThis.GPUAdapter?.prototype.requestDevice;

/**
 * Keeps every device that anyone opens until `stop`: each is opened anew, where models share one, too.
 * @returns {GPUDevice[] & { stop: () => void }}
 */
export function watchDevices() {
  const before = GPUAdapter.prototype.requestDevice;
  const stop = () => {
    GPUAdapter.prototype.requestDevice = before;
  };
  const devices = Object.assign([], { stop });
  GPUAdapter.prototype.requestDevice = async function requestDevice(...words) {
    const device = await ownDevice.apply(this, words);
    devices.push(device);
    return device;
  };
  return devices;
}

/** Whether work on a device still gets done. @param {GPUDevice} device */
export async function deviceWorks(device) {
  device.pushErrorScope('validation');
  const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const from = device.createBuffer({ size: 16, usage });
  const to = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  device.queue.writeBuffer(from, 0, new Uint32Array([1, 2, 3, 4]));
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(from, 0, to, 0, 16);
  device.queue.submit([encoder.finish()]);
  await to.mapAsync(GPUMapMode.READ);
  const words = [...new Uint32Array(to.getMappedRange())];
  from.destroy();
  to.destroy();
  return (await device.popErrorScope()) === null && words.join() === '1,2,3,4';
}

/**
 * What is compared of an explanation, in plain lists.
 * @param {any} answer of `explain`
 * @param {unknown[]} told what `onStep` heard
 */
export function plainAnswer(answer, told) {
  const pictures = ['original', 'noised', 'counterfactual', 'difference'].map((name) => answer[name]);
  return {
    told,
    reached: answer.reached,
    rung: answer.rung,
    chains: answer.chains,
    method: answer.method,
    best: answer.before.best,
    target: answer.target,
    before: [...answer.before.probabilities],
    afterBest: answer.after.best,
    after: [...answer.after.probabilities],
    values: [...answer.counterfactualValues],
    difference: [...answer.differenceValues],
    curve: [...answer.curve],
    pictures: pictures.map(({ data }) => [...data]),
    sizes: pictures.map(({ width, height }) => [width, height]),
  };
}
