/**
 * The errors a user may meet. Each has a stable `code` to test for, and a message that says what was expected,
 * what came and what to do. Anything else that is thrown is a defect of ours.
 */
export class DsnetError extends Error {
  /** Stable identifier, for example `ERR_SHAPE`. */
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Wrong argument or configuration value. */
export class UsageError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_USAGE", message, options);
  }
}

/** A tensor or image has another shape than the operation needs. */
export class ShapeError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_SHAPE", message, options);
  }
}

/** A file is not what its format demands: broken, truncated, or of a newer version. */
export class FormatError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_FORMAT", message, options);
  }
}

/** A data set is missing, empty, mislabelled or holds too many broken images. */
export class DataError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_DATA", message, options);
  }
}

/** No backend could start, or the one asked for could not. */
export class BackendError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_BACKEND", message, options);
  }
}

/** The arena is full. */
export class MemoryError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_MEMORY", message, options);
  }
}

/** A width whose norm statistics were never measured is asked for. */
export class UncalibratedError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_UNCALIBRATED", message, options);
  }
}

/** Losses or gradients stayed NaN or infinite. */
export class DivergedError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_DIVERGED", message, options);
  }
}

/** Writing failed: disk full, read-only, no such folder. The previous file is intact. */
export class StorageError extends DsnetError {
  constructor(message: string, options?: ErrorOptions) {
    super("ERR_STORAGE", message, options);
  }
}
