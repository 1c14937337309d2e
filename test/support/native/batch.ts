/**
 * Cases to bytes and back. A batch is a program for the runner: copies that load memory, one run, copies that store
 * memory, for each case. A state or an array of bytes that several cases share is sent once.
 */
import { hex } from '../../../src/core/address.ts'
import {
  BATCH_BASE,
  BATCH_CAPACITY,
  COMMAND_COPY,
  COMMAND_RUN,
  COMMAND_SIZE,
  COMMANDS_START,
  EXIT_PAD_SIZE,
  RUNNER_BASE,
} from './protocol.ts'
import { CpuState, OUTCOME, stateSize } from './state.ts'

/** One run: memory loaded, then `state` with its rip, then memory stored. */
export interface NativeCase {
  readonly state: CpuState
  /** Loaded before, in order. Each lies in one mapped region (of any access). */
  readonly writes?: readonly { readonly address: bigint; readonly bytes: Uint8Array }[]
  /** Stored after. */
  readonly reads?: readonly { readonly address: bigint; readonly length: number }[]
}

export interface NativeResult {
  /**
   * `exit`: left through an exit address. `fault`: ended by a signal. `hang`: did not end in time. `died`: took the
   * process with it (a system call, a broken runner). After the last two, `state` is the one before.
   */
  readonly end: 'exit' | 'fault' | 'hang' | 'died'
  /** Of `exit`: the number of the exit address, else -1. */
  readonly exit: number
  /** Of `fault`: the signal by name and number; si_code; the faulting address (0 for a general protection fault). */
  readonly signalName: SignalName | ''
  readonly signal: number
  readonly code: number
  readonly address: bigint
  /** Page faults: bit 1 write, bit 4 instruction fetch (the CPU's error code). */
  readonly error: number
  /** All registers afterwards, or as at the fault; `state.rip` is the exit address or the faulting instruction. */
  readonly state: CpuState
  /** One array for each of the case's `reads`. */
  readonly memory: readonly Uint8Array[]
}

export const SIGNAL_NAMES = { 4: 'SIGILL', 5: 'SIGTRAP', 7: 'SIGBUS', 8: 'SIGFPE', 11: 'SIGSEGV' } as const
export type SignalName = (typeof SIGNAL_NAMES)[keyof typeof SIGNAL_NAMES]

export interface Batch {
  readonly cases: readonly NativeCase[]
  /** Header, commands and input; the file's start. */
  readonly input: Uint8Array
  /** Output follows the input in the file. */
  readonly outputStart: number
  readonly outputEnd: number
  /** Per case: offsets in the file of its run command and of its resulting state; its stored memory follows that. */
  readonly runs: Float64Array
  readonly states: Float64Array
}

const align = (offset: number): number => Math.ceil(offset / 64) * 64

/** How many cases from `first` on fit, and the sizes. At least one; throws where that one is too big. */
function measure(cases: readonly NativeCase[], first: number): { end: number; commands: number } {
  let commands = 1
  let bytes = COMMANDS_START + COMMAND_SIZE
  const seen = new Set<object>()
  const input = (key: object, length: number): number => {
    if (seen.has(key)) return 0
    seen.add(key)
    return align(length)
  }
  let end = first
  for (; end < cases.length; end++) {
    const { state, writes = [], reads = [] } = cases[end]
    const own = 1 + writes.length + reads.length
    const size = state.bytes.length
    let more = own * COMMAND_SIZE + input(state, size) + size + 64
    for (const write of writes) more += input(write.bytes, write.bytes.length)
    for (const read of reads) more += align(read.length)
    if (bytes + more > BATCH_CAPACITY) break
    bytes += more
    commands += own
  }
  if (end === first)
    throw new RangeError(`case ${first} needs more than the ${BATCH_CAPACITY} bytes of a batch`)
  return { end, commands }
}

/**
 * The batch of as many cases as fit from `first` on. `alias` gives the address at which the child may touch the
 * bytes of a region; it throws where they are not mapped.
 */
export function encodeBatch(
  cases: readonly NativeCase[],
  first: number,
  buffer: Uint8Array,
  alias: (address: bigint, length: number) => bigint,
): Batch {
  const { end, commands } = measure(cases, first)
  const words = new BigUint64Array(buffer.buffer, buffer.byteOffset, buffer.length >> 3)
  const count = end - first
  const runs = new Float64Array(count)
  const states = new Float64Array(count)
  const offsets = new Map<object, number>()
  let used = align(COMMANDS_START + commands * COMMAND_SIZE)
  const place = (key: object, bytes: Uint8Array): bigint => {
    let offset = offsets.get(key)
    if (offset === undefined) {
      offset = used
      offsets.set(key, offset)
      buffer.set(bytes, offset)
      used = align(offset + bytes.length)
    }
    return BATCH_BASE + BigInt(offset)
  }
  // Input first, so that what follows it in the file is output alone.
  for (let i = first; i < end; i++) {
    place(cases[i].state, cases[i].state.bytes)
    for (const { bytes } of cases[i].writes ?? []) place(bytes, bytes)
  }
  const outputStart = used
  let command = COMMANDS_START
  const emit = (operation: bigint, a: bigint, b: bigint, c: bigint): void => {
    const at = command >> 3
    words[at] = operation
    words[at + 1] = a
    words[at + 2] = b
    words[at + 3] = c
    command += COMMAND_SIZE
  }
  for (let i = 0; i < count; i++) {
    const { state, writes = [], reads = [] } = cases[first + i]
    for (const { address, bytes } of writes)
      emit(COMMAND_COPY, alias(address, bytes.length), place(bytes, bytes), BigInt(bytes.length))
    runs[i] = command
    states[i] = used
    emit(COMMAND_RUN, place(state, state.bytes), BATCH_BASE + BigInt(used), 0n)
    used += state.bytes.length
    for (const { address, length } of reads) {
      emit(COMMAND_COPY, BATCH_BASE + BigInt(used), alias(address, length), BigInt(length))
      used = align(used + length)
    }
  }
  emit(0n, 0n, 0n, 0n)
  words[0] = 0n
  const input = buffer.subarray(0, outputStart)
  return { cases: cases.slice(first, end), input, outputStart, outputEnd: used, runs, states }
}

/** Which case of the batch was begun last, from the word at the file's start; -1: none. */
export function caseInProgress(batch: Batch, progress: bigint): number {
  return batch.runs.indexOf(Number(progress - BATCH_BASE))
}

/** The results of the first `count` cases. They are views of `output`, the file from `outputStart` on. */
export function decodeBatch(batch: Batch, output: Uint8Array, count: number): NativeResult[] {
  const results: NativeResult[] = []
  for (let i = 0; i < count; i++) {
    const { state: before, reads = [] } = batch.cases[i]
    let at = batch.states[i] - batch.outputStart
    const bytes = output.subarray(at, (at += stateSize(before.layout)))
    const memory = reads.map(({ length }) => {
      const stored = output.subarray(at, at + length)
      at = align(at + length)
      return stored
    })
    results.push(decodeResult(new CpuState(before.layout, bytes), memory))
  }
  return results
}

function decodeResult(state: CpuState, memory: Uint8Array[]): NativeResult {
  const { bytes } = state
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATE_OUTCOME_END)
  const signal = bytes[OUTCOME.signal]
  const exit = signal === 0 ? bytes[OUTCOME.pad] : -1
  // XSAVE leaves the header's reserved words alone; a state to be loaded needs them 0.
  bytes.fill(0, XSAVE_RESERVED, XSAVE_RESERVED_END)
  if (signal === 0) state.rip = RUNNER_BASE + BigInt(exit * EXIT_PAD_SIZE)
  else state.rflags = view.getBigUint64(OUTCOME.flags, true)
  return {
    end: signal === 0 ? 'exit' : 'fault',
    exit,
    signal,
    signalName: SIGNAL_NAMES[signal as keyof typeof SIGNAL_NAMES] ?? '',
    code: view.getInt32(OUTCOME.code, true),
    address: view.getBigUint64(OUTCOME.address, true),
    error: view.getUint32(OUTCOME.error, true),
    state,
    memory,
  }
}

const STATE_OUTCOME_END = 208
const XSAVE_RESERVED = 256 + 520
const XSAVE_RESERVED_END = 256 + 576

/** The result of a case that gave none. */
export const lostResult = (lost: NativeCase, end: 'hang' | 'died'): NativeResult => ({
  end,
  exit: -1,
  signal: 0,
  signalName: '',
  code: 0,
  address: 0n,
  error: 0,
  state: lost.state,
  memory: [],
})

/** A result in a few words, for messages. */
export function describeResult(result: NativeResult): string {
  switch (result.end) {
    case 'exit':
      return `left by exit ${result.exit}, rax ${hex(result.state.get('rax'))}`
    case 'fault':
      return `${result.signalName} at rip ${hex(result.state.rip)}, address ${hex(result.address)}, code ${result.code}`
    default:
      return result.end
  }
}
