/**
 * Runs machine code at chosen addresses in a child process: whole register state and memory in, the same out, faults
 * told, many cases a batch. A case that hangs or kills the child costs the child, not the test: a new one is started,
 * with the same regions, and goes on behind it.
 */
import type { ChildProcess } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hex } from '../../../src/core/address.ts'
import { RelocError, type RelocErrorCode } from '../../../src/core/errors.ts'
import { type Access, nativeUnavailable, PAGE_SIZE } from '../../../src/heap/native/memory.ts'
import {
  type Batch,
  caseInProgress,
  decodeBatch,
  describeResult,
  encodeBatch,
  lostResult,
  type NativeCase,
  type NativeResult,
} from './batch.ts'
import type { Cpu } from './cpu.ts'
import { answerOf, isTaken, Lost, startProcess } from './process.ts'
import {
  BATCH_CAPACITY,
  CALL_STACK_BASE,
  CALL_STACK_SIZE,
  EXIT_PAD_SIZE,
  EXIT_PADS,
  type Reply,
  type Request,
  RUNNER_BASE,
} from './protocol.ts'
import { CpuState, type StateLayout } from './state.ts'

/** Empty where code can be run here, else why not: tests skip with it. */
export const nativeReason: string = nativeUnavailable() ?? ''
export const nativeAvailable: boolean = nativeReason === ''

/** Milliseconds that a batch may take unless the caller says otherwise. */
const DEFAULT_TIMEOUT = 10_000
/** Milliseconds in which the child must be ready, or do a request that runs no case. */
const REQUEST_TIMEOUT = 20_000
/** Integer arguments in registers, as the System V ABI has them. */
const ARGUMENT_REGISTERS = ['rdi', 'rsi', 'rdx', 'rcx', 'r8', 'r9'] as const

/** The address that ends a case with `exit: index` when it is jumped or returned to; index 0..255. */
export function exitAddress(index = 0): bigint {
  if (!(index >= 0 && index < EXIT_PADS)) throw new RangeError(`exit ${index}: there are ${EXIT_PADS}`)
  return RUNNER_BASE + BigInt(index * EXIT_PAD_SIZE)
}

interface Region {
  readonly address: bigint
  readonly length: number
  access: Access
  /** As given to `map`: what a new child finds there. */
  readonly bytes: Uint8Array | undefined
  alias: bigint
}

export interface RunOptions {
  /** Milliseconds for each batch (up to some thousand cases); what exceeds them ends as `hang`. */
  readonly timeout?: number
}

/** A call of a C function with integer arguments, as a case. */
export interface NativeCall extends Omit<NativeCase, 'state'> {
  readonly address: bigint
  readonly args?: readonly bigint[]
  /** Registers before; arguments, rsp and rip are set in a copy. Default: `newState()`. */
  readonly state?: CpuState
}

export class NativeHarness {
  readonly #file: number
  readonly #buffer = new Uint8Array(BATCH_CAPACITY)
  readonly #regions = new Map<bigint, Region>()
  #child: ChildProcess | undefined
  #cpu: Cpu | undefined
  /** Requests wait for the one before, and so do runs, which are several requests. */
  #queue: Promise<unknown> = Promise.resolve()
  #turn: Promise<unknown> = Promise.resolve()

  private constructor() {
    const memoryBacked = '/dev/shm'
    const folder = mkdtempSync(join(existsSync(memoryBacked) ? memoryBacked : tmpdir(), 'native-'))
    this.#file = openSync(join(folder, 'batch'), 'wx+')
    rmSync(folder, { recursive: true })
    writeSync(this.#file, new Uint8Array(1), 0, 1, BATCH_CAPACITY - 1)
  }

  /** Starts a child. Throws `unsupported` where `nativeAvailable` is false. */
  static async start(): Promise<NativeHarness> {
    if (!nativeAvailable) throw new RelocError('unsupported', `No native execution: ${nativeReason}.`)
    const harness = new NativeHarness()
    await harness.#startChild()
    await harness.map(CALL_STACK_BASE, CALL_STACK_SIZE, 'rw')
    return harness
  }

  /** CPU features by their names in /proc/cpuinfo, and `fsgsbase` where states may set segment bases. */
  get features(): readonly string[] {
    return this.#cpu?.features ?? []
  }

  get layout(): StateLayout {
    if (this.#cpu === undefined) throw new Error('the harness is closed')
    return this.#cpu.layout
  }

  /** Of the child, for looks into /proc. */
  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** A fresh state: see `CpuState`. */
  newState(): CpuState {
    return new CpuState(this.layout)
  }

  /**
   * Maps `length` bytes (rounded up to pages) at a page's address with `access`, zeroed, then `bytes` from its start.
   * The memory keeps what cases write until `unmap`. Throws `bad-argument` where the place is taken.
   */
  async map(address: bigint, length: number, access: Access, bytes?: Uint8Array): Promise<void> {
    const region: Region = { address, length, access, bytes, alias: 0n }
    if (!this.#hasMapped(address, length) && isTaken(this.pid, address, length)) {
      this.#child?.kill('SIGKILL')
      this.#regions.set(address, region)
      await this.#startChild()
      return
    }
    await this.#mapRegion(region)
    this.#regions.set(address, region)
    if (bytes !== undefined) await this.write(address, bytes)
  }

  /** Unmaps the region that `map` made at `address`. */
  async unmap(address: bigint): Promise<void> {
    const region = this.#regions.get(address)
    if (region === undefined) throw new RelocError('bad-argument', `No region was mapped at ${hex(address)}.`)
    this.#regions.delete(address)
    await this.#ask({ what: 'unmap', address: hex(address), length: region.length })
  }

  /** Changes the access of the region that `map` made at `address`. */
  async protect(address: bigint, access: Access): Promise<void> {
    const region = this.#regions.get(address)
    if (region === undefined) throw new RelocError('bad-argument', `No region was mapped at ${hex(address)}.`)
    await this.#ask({ what: 'protect', address: hex(address), length: region.length, access })
    region.access = access
  }

  /** Unmaps every region of `map`. */
  async unmapAll(): Promise<void> {
    for (const address of [...this.#regions.keys()])
      if (address !== CALL_STACK_BASE) await this.unmap(address)
  }

  /**
   * Addresses of functions of the child's C library; throws where it has no such function. They are those of
   * this child: not of one that follows it.
   */
  async resolve(names: readonly string[]): Promise<bigint[]> {
    const { addresses = [] } = await this.#ask({ what: 'resolve', names })
    return names.map((name, i) => {
      if (addresses[i] === '0') throw new RelocError('bad-argument', `The C library has no ${name}.`)
      return BigInt(addresses[i])
    })
  }

  /** Writes into a region, whatever its access. */
  async write(address: bigint, bytes: Uint8Array): Promise<void> {
    await this.run([{ state: this.#nop(), writes: [{ address, bytes }] }])
  }

  /** Reads from a region, whatever its access. */
  async read(address: bigint, length: number): Promise<Uint8Array> {
    const [result] = await this.run([{ state: this.#nop(), reads: [{ address, length }] }])
    return result.memory[0]
  }

  /** Runs the cases in order, in one process; a result for each. Calls that overlap in time run one by one. */
  run(cases: readonly NativeCase[], options: RunOptions = {}): Promise<NativeResult[]> {
    const next = this.#turn.then(() => this.#runBatches(cases, options))
    this.#turn = next.catch(() => undefined)
    return next
  }

  /** Calls C functions (System V ABI, integers and pointers): rax is in `result.state`. */
  async callFunctions(calls: readonly NativeCall[], options?: RunOptions): Promise<NativeResult[]> {
    return await this.run(
      calls.map((call) => this.#callCase(call)),
      options,
    )
  }

  /** One call; returns rax. Throws where the function does not return. */
  async callFunction(address: bigint, args: readonly bigint[] = [], options?: RunOptions): Promise<bigint> {
    const [result] = await this.callFunctions([{ address, args }], options)
    if (result.end !== 'exit')
      throw new Error(`the function at ${hex(address)} did not return: ${describeResult(result)}`)
    return result.state.get('rax')
  }

  /** Ends the child. */
  close(): void {
    this.#cpu = undefined
    this.#child?.kill('SIGKILL')
    this.#child = undefined
    closeSync(this.#file)
  }

  async #runBatches(cases: readonly NativeCase[], options: RunOptions): Promise<NativeResult[]> {
    const results: NativeResult[] = []
    while (results.length < cases.length) {
      const batch = encodeBatch(cases, results.length, this.#buffer, (address, length) =>
        this.#aliasOf(address, length),
      )
      for (const result of await this.#execute(batch, options.timeout ?? DEFAULT_TIMEOUT))
        results.push(result)
    }
    return results
  }

  #nop(): CpuState {
    const state = this.newState()
    state.rip = exitAddress(0)
    return state
  }

  #callCase({ address, args = [], state, writes = [], reads }: NativeCall): NativeCase {
    const before = state?.clone() ?? this.newState()
    const onStack = args.slice(ARGUMENT_REGISTERS.length)
    const frame = new BigUint64Array([exitAddress(0), ...onStack])
    // At entry rsp is 8 below a multiple of 16; the red zone and callers' shadow space above are free.
    const rsp = ((CALL_STACK_BASE + BigInt(CALL_STACK_SIZE - 256 - frame.byteLength)) & ~15n) - 8n
    for (const [i, value] of args.slice(0, ARGUMENT_REGISTERS.length).entries())
      before.set(ARGUMENT_REGISTERS[i], value)
    before.set('rsp', rsp)
    before.rip = address
    const stack = { address: rsp, bytes: new Uint8Array(frame.buffer) }
    return { state: before, writes: [...writes, stack], ...(reads === undefined ? {} : { reads }) }
  }

  /** Whether some of [address, address + length) is a region of `map`. */
  #hasMapped(address: bigint, length: number): boolean {
    return [...this.#regions.values()].some(
      (region) =>
        region.address < address + BigInt(length) && address < region.address + BigInt(region.length),
    )
  }

  #aliasOf(address: bigint, length: number): bigint {
    for (const region of this.#regions.values()) {
      const offset = address - region.address
      const size = Math.ceil(region.length / PAGE_SIZE) * PAGE_SIZE
      if (offset >= 0n && offset + BigInt(length) <= BigInt(size)) return region.alias + offset
    }
    throw new RelocError('bad-argument', `${length} bytes at ${hex(address)} are not in one mapped region.`)
  }

  async #mapRegion(region: Region): Promise<void> {
    const { address, length, access } = region
    const reply = await this.#ask({ what: 'map', address: hex(address), length, access })
    region.alias = BigInt(reply.alias ?? 0)
  }

  /** Runs one batch; fewer results than cases where one of them was the child's last. */
  async #execute(batch: Batch, timeout: number): Promise<NativeResult[]> {
    writeSync(this.#file, batch.input, 0, batch.input.length, 0)
    const end = await this.#request({ what: 'execute' }, timeout).then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof Lost) return error.how
        throw error
      },
    )
    const output = new Uint8Array(batch.outputEnd - batch.outputStart)
    readSync(this.#file, output, 0, output.length, batch.outputStart)
    if (end === undefined) return decodeBatch(batch, output, batch.cases.length)
    const progress = new BigUint64Array(1)
    readSync(this.#file, progress, 0, 8, 0)
    const lost = caseInProgress(batch, progress[0])
    if (lost < 0) throw new Error(`the child ended before the first case: ${end}`)
    await this.#startChild()
    return [...decodeBatch(batch, output, lost), lostResult(batch.cases[lost], end)]
  }

  async #ask(request: Request): Promise<Reply & { what: 'done' }> {
    return await this.#request(request, REQUEST_TIMEOUT)
  }

  /** One request at a time. */
  #request(request: Request, timeout: number): Promise<Reply & { what: 'done' }> {
    const next = this.#queue.then(() => {
      const answer = answerOf(this.#child, timeout)
      this.#child?.send(request)
      return answer
    })
    this.#queue = next.catch(() => undefined)
    return next.then((reply) => {
      if (reply.what === 'done') return reply
      throw reply.what === 'failed'
        ? new RelocError(reply.code as RelocErrorCode, reply.message)
        : new Error('the child started anew')
    })
  }

  /** Starts a child and gives it the regions of the one before. */
  async #startChild(): Promise<void> {
    const isInTheWay = (): boolean =>
      [...this.#regions.values()].some(({ address, length }) => isTaken(this.pid, address, length))
    for (let tries = 1; tries === 1 || (isInTheWay() && tries <= MOST_STARTS); tries++) {
      this.#child?.kill('SIGKILL')
      this.#child = startProcess(this.#file)
      const hello = await answerOf(this.#child, REQUEST_TIMEOUT)
      if (hello.what !== 'hello') throw new Error('the child did not start')
      this.#cpu = hello.cpu
    }
    for (const region of this.#regions.values()) await this.#mapRegion(region)
    const contents = [...this.#regions.values()].flatMap(({ address, bytes }) =>
      bytes === undefined ? [] : [{ state: this.#nop(), writes: [{ address, bytes }] }],
    )
    await this.#runBatches(contents, {})
  }
}

/** Children that are tried until all that one has lies elsewhere. */
const MOST_STARTS = 16
