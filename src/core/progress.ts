/** Progress of long calls, and how a caller stops one. */
import { RelocError } from './errors.ts'
import { checkFunction, type OptionRules, optional, record } from './options.ts'

export interface ProgressOptions {
  /**
   * Called now and then with bytes done and bytes in all (of the phase named). Returning `false` stops the
   * call: it throws `RelocError` with code `stopped`, and nothing has been written.
   */
  readonly onProgress?: ((done: number, total: number, phase: string) => unknown) | undefined
  /** Stops the call likewise; looked at as often as `onProgress` is called. */
  readonly signal?: { readonly aborted: boolean } | undefined
}

export const PROGRESS_RULES: OptionRules<ProgressOptions> = {
  onProgress: optional(checkFunction),
  signal: optional(record('an AbortSignal')),
}

/** Bytes between two looks at `signal` and calls of `onProgress`. */
export const PROGRESS_STEP: number = 1 << 18

/** Reports; throws `stopped` where the caller wants no more. */
export function reportProgress(options: ProgressOptions, done: number, total: number, phase: string): void {
  if (options.onProgress?.(done, total, phase) === false || options.signal?.aborted === true)
    throw new RelocError('stopped', `Stopped by the caller during ${phase}, after ${done} of ${total} bytes.`)
}
