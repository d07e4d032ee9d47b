/**
 * A reader of `.safetensors` files, the same for node and for test pages.
 */

/** @typedef {{ shape: number[], data: Float64Array | Float32Array | Int32Array | Uint8Array }} Tensor */
/** @typedef {{ metadata: Record<string, unknown>, tensors: Map<string, Tensor> }} File */

/** @type {Record<string, { size: number, make: (bytes: ArrayBuffer) => Tensor['data'] }>} */
const TYPES = {
  F64: { size: 8, make: (bytes) => new Float64Array(bytes) },
  F32: { size: 4, make: (bytes) => new Float32Array(bytes) },
  // Timesteps and labels: small numbers.
  I64: { size: 8, make: (bytes) => Int32Array.from(new BigInt64Array(bytes), Number) },
  U8: { size: 1, make: (bytes) => new Uint8Array(bytes) },
};

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * @param {Uint8Array} bytes
 * @returns {File}
 */
export function readSafetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.byteLength < 8 ? -1 : Number(view.getBigUint64(0, true));
  if (length < 2 || length > bytes.byteLength - 8) throw new Error('not a safetensors file');
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const metadata = {};
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(entry)) metadata[key] = parsed(text);
      continue;
    }
    const type = TYPES[entry.dtype];
    if (type === undefined) throw new Error(`${name} has the unknown type ${entry.dtype}`);
    const [from, to] = entry.data_offsets;
    const count = entry.shape.reduce((a, b) => a * b, 1);
    if (to - from !== count * type.size || 8 + length + to > bytes.byteLength) {
      throw new Error(`${name}: ${to - from} bytes for the shape ${entry.shape}`);
    }
    // Copied: typed arrays need aligned data, which the file does not promise. (A Buffer's own slice copies nothing.)
    const copy = Uint8Array.prototype.slice.call(bytes, 8 + length + from, 8 + length + to).buffer;
    tensors.set(name, { shape: entry.shape, data: type.make(copy) });
  }
  return { metadata, tensors };
}
