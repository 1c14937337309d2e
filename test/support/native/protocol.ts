/**
 * What parent and child agree on. Small requests go over the IPC channel as JSON (addresses as hex text); batches lie
 * in a file without a name that the child inherits and maps: header, commands, input, output. The word at its start
 * is the runner's progress: the address of the run command begun last.
 */
import type { Access } from '../../../src/heap/native/memory.ts'
import type { Cpu } from './cpu.ts'

/** The harness's own part of the address space; cases use the rest. */
export const HARNESS_RANGE = { start: 0x6e0000000000n, end: 0x6e1000000000n } as const
/** Exit pads, code, control block. */
export const RUNNER_BASE: bigint = HARNESS_RANGE.start
export const RUNNER_CODE_SIZE = 0x2000
export const RUNNER_SIZE = 0x4000
export const EXIT_PADS = 256
export const EXIT_PAD_SIZE = 16
/** Stack of the signal handler, and a page of scratch for libc's structures. */
export const SIGNAL_STACK_BASE = 0x6e0000100000n
export const SIGNAL_STACK_SIZE = 0x10000
export const SCRATCH_BASE = 0x6e0000200000n
/** Stack of `callFunction`. */
export const CALL_STACK_BASE = 0x6e0001000000n
export const CALL_STACK_SIZE = 0x100000
/** The batch file, as the child maps it. */
export const BATCH_BASE = 0x6e0100000000n
export const BATCH_CAPACITY = 1 << 24
/** The batch file's descriptor in the child. */
export const BATCH_FILE = 4

/** Where the writable views of the regions lie, one behind the other. */
export const ALIAS_BASE = 0x6e0800000000n

export const COMMAND_SIZE = 32
export const COMMAND_COPY = 1n
export const COMMAND_RUN = 2n
/** Where commands begin in the batch file. */
export const COMMANDS_START = 64

export type Request =
  | { readonly what: 'map'; readonly address: string; readonly length: number; readonly access: Access }
  | { readonly what: 'unmap'; readonly address: string; readonly length: number }
  | { readonly what: 'protect'; readonly address: string; readonly length: number; readonly access: Access }
  | { readonly what: 'execute' }
  /** Functions of the child's C library, by name. */
  | { readonly what: 'resolve'; readonly names: readonly string[] }

export type Reply =
  /** Sent once, unasked, when the child is ready. */
  | { readonly what: 'hello'; readonly cpu: Cpu }
  /** `alias`, of a `map`: where the child may write to the region, whatever its access. */
  | { readonly what: 'done'; readonly alias?: string; readonly addresses?: readonly string[] }
  | { readonly what: 'failed'; readonly code: string; readonly message: string }
