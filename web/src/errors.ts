/**
 * What can go wrong, as classes with a `code` to switch on.
 * @module
 */

/** The kinds of failure. */
export type DuetErrorCode =
  | 'no-webgpu'
  | 'no-adapter'
  | 'limit-too-small'
  | 'out-of-memory'
  | 'device-lost'
  | 'aborted'
  | 'bad-checkpoint'
  | 'bad-input'
  | 'not-finite'
  | 'network'
  | 'disposed'
  | 'storage'
  | 'gpu'
  | 'internal';

/** Base of every error of this package. */
export class DuetError extends Error {
  /** What kind of failure it is. */
  readonly code: DuetErrorCode;

  constructor(code: DuetErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** This browser has no WebGPU. */
export class NoWebGpuError extends DuetError {
  constructor(message: string) {
    super('no-webgpu', message);
  }
}

/** There is WebGPU, but no adapter to open. */
export class NoAdapterError extends DuetError {
  constructor(message: string) {
    super('no-adapter', message);
  }
}

/** The adapter offers less than the model needs. */
export class LimitTooSmallError extends DuetError {
  constructor(
    message: string,
    /** WebGPU's name of the limit. */
    readonly limit: string,
    /** What the model needs. */
    readonly need: number,
    /** What the adapter offers. */
    readonly have: number,
  ) {
    super('limit-too-small', message);
  }
}

/** The GPU could not allocate. */
export class OutOfMemoryError extends DuetError {
  constructor(
    message: string,
    /** Bytes asked for. */
    readonly need: number,
  ) {
    super('out-of-memory', message);
  }
}

/**
 * The GPU device is gone. A device of our own is replaced: calls that can start over do so by themselves, and the next
 * call works. An embedder's device is not replaced: load the model again with a new one.
 */
export class DeviceLostError extends DuetError {
  constructor(message: string, options?: ErrorOptions) {
    super('device-lost', message, options);
  }
}

/** The caller asked to stop. */
export class AbortedError extends DuetError {
  constructor(message = 'aborted') {
    super('aborted', message);
  }
}

/** The file is no checkpoint, or one that does not fit. */
export class BadCheckpointError extends DuetError {
  constructor(message: string) {
    super('bad-checkpoint', message);
  }
}

/** An argument out of range, or an image that does not fit. */
export class BadInputError extends DuetError {
  constructor(
    message: string,
    /** The field or option that is wrong, where it is one of a recipe's: "train.batch_size". */
    readonly field?: string,
  ) {
    super('bad-input', message);
  }
}

/** What an error looks like on its way out of WebAssembly or a worker. */
export interface PlainError {
  code: DuetErrorCode;
  message: string;
  limit?: string;
  need?: number;
  have?: number;
  field?: string;
}

/** The typed error of a plain one. */
export function typedError(plain: PlainError): DuetError {
  const { code, message } = plain;
  switch (code) {
    case 'no-webgpu':
      return new NoWebGpuError(message);
    case 'no-adapter':
      return new NoAdapterError(message);
    case 'limit-too-small':
      return new LimitTooSmallError(message, plain.limit ?? '', plain.need ?? 0, plain.have ?? 0);
    case 'out-of-memory':
      return new OutOfMemoryError(message, plain.need ?? 0);
    case 'device-lost':
      return new DeviceLostError(message);
    case 'aborted':
      return new AbortedError(message);
    case 'bad-checkpoint':
      return new BadCheckpointError(message);
    case 'bad-input':
      return new BadInputError(message, plain.field);
    default:
      return new DuetError(code, message);
  }
}

/** The plain form of any error, for a worker's messages. */
export function plainError(error: unknown): PlainError {
  if (error instanceof DuetError) {
    const { code, message } = error;
    const plain: PlainError = { code, message };
    if (error instanceof LimitTooSmallError) {
      Object.assign(plain, { limit: error.limit, need: error.need, have: error.have });
    } else if (error instanceof OutOfMemoryError) {
      plain.need = error.need;
    } else if (error instanceof BadInputError && error.field !== undefined) {
      plain.field = error.field;
    }
    return plain;
  }
  return { code: 'internal', message: messageOf(error) };
}

/** The words of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error || error instanceof DOMException ? error.message : String(error);
}
