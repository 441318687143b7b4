// The error classes of the whole library. A message says who speaks, what was expected, what came and what to do:
// `conv2d: groups=3 must divide inChannels=64`. This file imports nothing, so that every layer may use it.

/** A shape, a rank, an axis or a size that an operation cannot take. */
export class ShapeError extends Error {
  override readonly name: string = 'ShapeError'
}

/** A dtype that an operation cannot take. */
export class DTypeError extends Error {
  override readonly name: string = 'DTypeError'
}

/** A value (not a shape, not a dtype) outside its domain: a negative rate, a temperature of 0, an unknown option. */
export class ValueError extends Error {
  override readonly name: string = 'ValueError'
}

/** A call in the wrong place: an op outside a trace, tensors of two graphs in one op, a parameter without a name. */
export class GraphError extends Error {
  override readonly name: string = 'GraphError'
}

/** An operation that a backend does not run, with its reason. */
export class UnsupportedOpError extends Error {
  override readonly name: string = 'UnsupportedOpError'
  readonly backend: string
  readonly op: string
  readonly reason: string

  constructor(options: { readonly backend: string; readonly op: string; readonly reason: string }) {
    super(`${options.backend}: cannot run ${options.op}: ${options.reason}`)
    this.backend = options.backend
    this.op = options.op
    this.reason = options.reason
  }
}

/** A use of something that was disposed. */
export class DisposedError extends Error {
  override readonly name: string = 'DisposedError'
}

/** The engine lost its device; state read before the loss stays usable. */
export class DeviceLostError extends Error {
  override readonly name: string = 'DeviceLostError'
}

/** An engine that is not installed or cannot start; the message says which command installs it. */
export class BackendUnavailableError extends Error {
  override readonly name: string = 'BackendUnavailableError'
}

/** A file whose bytes are not what its format promises. */
export class FormatError extends Error {
  override readonly name: string = 'FormatError'
  /** The file's name as the caller gave it. */
  readonly file: string
  /** The byte at which reading failed. */
  readonly offset: number

  constructor(message: string, options: { readonly file: string; readonly offset: number; readonly cause?: unknown }) {
    super(`${options.file}: ${message} (at byte ${options.offset})`, options.cause === undefined ? undefined : { cause: options.cause })
    this.file = options.file
    this.offset = options.offset
  }
}

/** A training step whose loss or whose state is no longer finite. */
export class NonFiniteError extends Error {
  override readonly name: string = 'NonFiniteError'
  /** The step (counted from 0) at which it was seen. */
  readonly step: number
  /** The first parameter, in the order of the model, that holds a NaN or an infinity; undefined when only the loss does. */
  readonly parameter: string | undefined

  constructor(message: string, options: { readonly step: number; readonly parameter?: string | undefined }) {
    super(message)
    this.step = options.step
    this.parameter = options.parameter
  }
}
