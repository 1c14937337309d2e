/**
 * The process that executes cases. Every region is an anonymous file mapped twice: where the case wants it, with the
 * access that it wants, and somewhere else read-write, where the runner loads and stores its bytes.
 */
import { createRequire } from 'node:module'
import { RelocError } from '../../../src/core/errors.ts'
import { NativeMemory, PAGE_SIZE } from '../../../src/heap/native/memory.ts'
import { type Cpu, readCpu } from './cpu.ts'
import { RUNNER_IMAGE, RUNNER_LABELS } from './generated/runner.ts'
import {
  ALIAS_BASE,
  BATCH_BASE,
  BATCH_CAPACITY,
  BATCH_FILE,
  COMMANDS_START,
  type Reply,
  type Request,
  RUNNER_BASE,
  RUNNER_CODE_SIZE,
  RUNNER_SIZE,
  SCRATCH_BASE,
  SIGNAL_STACK_BASE,
  SIGNAL_STACK_SIZE,
} from './protocol.ts'

const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
const libc = koffi.load(null)
const sigaction = libc.func('int sigaction(int, uint64_t, uint64_t)')
const sigaltstack = libc.func('int sigaltstack(uint64_t, uint64_t)')
/** 0: in any library that is loaded. */
const dlsym = libc.func('uint64_t dlsym(uint64_t, const char *)')
const getauxval = libc.func('uint64_t getauxval(uint64_t)')

/** SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV. */
const SIGNALS = [4, 5, 7, 8, 11]
/** glibc's struct sigaction: handler, 128 bytes of mask, flags, restorer. */
const SIGACTION_SIZE = 152
const SIGACTION_FLAGS = 136
const SA_SIGINFO = 4
const SA_ONSTACK = 0x08000000
const AT_HWCAP2 = 26n
const HWCAP2_FSGSBASE = 2n

const memory = new NativeMemory()
const aliases = new Map<string, bigint>()
/** Never reused; where the system would place them, a case may want to be. */
let nextAlias = ALIAS_BASE

function label(name: keyof typeof RUNNER_LABELS): bigint {
  return RUNNER_BASE + BigInt(RUNNER_LABELS[name])
}

function start(): Cpu {
  memory.map(RUNNER_BASE, RUNNER_SIZE)
  memory.write(RUNNER_BASE, Buffer.from(RUNNER_IMAGE, 'base64'))
  memory.protect(RUNNER_BASE, RUNNER_CODE_SIZE, 'rx')
  memory.map(SIGNAL_STACK_BASE, SIGNAL_STACK_SIZE)
  memory.map(SCRATCH_BASE, PAGE_SIZE)
  memory.mapShared(BATCH_FILE, 0, BATCH_BASE, BATCH_CAPACITY, 'rw')

  const scratch = new DataView(memory.view(SCRATCH_BASE, PAGE_SIZE, 'rw').buffer)
  const cpu = readCpu(
    (leaf, subleaf) => {
      memory.call(label('cpuid'), [BigInt(leaf), BigInt(subleaf), SCRATCH_BASE])
      const at = (i: number): number => scratch.getUint32(4 * i, true)
      return [at(0), at(1), at(2), at(3)]
    },
    () => memory.call(label('xgetbv'), [0n]),
  )
  const fsgsbase = (BigInt(getauxval(AT_HWCAP2)) & HWCAP2_FSGSBASE) !== 0n
  const settings = memory.view(label('control'), RUNNER_SIZE - RUNNER_CODE_SIZE, 'rw')
  settings[RUNNER_LABELS.xsaveMask - RUNNER_LABELS.control] = cpu.layout.mask
  settings[RUNNER_LABELS.hasFsgsbase - RUNNER_LABELS.control] = fsgsbase ? 1 : 0

  scratch.setBigUint64(0, SIGNAL_STACK_BASE, true)
  scratch.setBigUint64(8, 0n, true)
  scratch.setBigUint64(16, BigInt(SIGNAL_STACK_SIZE), true)
  sigaltstack(SCRATCH_BASE, 0n)
  scratch.setBigUint64(0, label('handler'), true)
  for (let at = 8; at < SIGACTION_SIZE; at += 8) scratch.setBigUint64(at, 0n, true)
  scratch.setUint32(SIGACTION_FLAGS, SA_SIGINFO | SA_ONSTACK, true)
  return fsgsbase ? { ...cpu, features: [...cpu.features, 'fsgsbase'] } : cpu
}

/** Runs the batch. The handlers are in place only meanwhile: a fault of Node's own stays Node's. */
function execute(): void {
  const before = (i: number): bigint => SCRATCH_BASE + BigInt((i + 1) * SIGACTION_SIZE)
  for (const [i, signal] of SIGNALS.entries()) sigaction(signal, SCRATCH_BASE, before(i))
  memory.call(label('execute'), [BATCH_BASE + BigInt(COMMANDS_START), BATCH_BASE])
  for (const [i, signal] of SIGNALS.entries()) sigaction(signal, before(i), 0n)
}

function map(request: Request & { what: 'map' }): Reply {
  const file = memory.createShared('case', request.length)
  try {
    memory.mapShared(file, 0, BigInt(request.address), request.length, request.access)
    const alias = memory.mapShared(file, 0, nextAlias, request.length, 'rw')
    nextAlias += BigInt(Math.ceil(request.length / PAGE_SIZE) * PAGE_SIZE)
    aliases.set(request.address, alias)
    return { what: 'done', alias: `0x${alias.toString(16)}` }
  } finally {
    memory.closeShared(file)
  }
}

function serve(request: Request): Reply {
  switch (request.what) {
    case 'map':
      return map(request)
    case 'unmap': {
      const alias = aliases.get(request.address)
      if (alias !== undefined) memory.unmap(alias, request.length)
      aliases.delete(request.address)
      memory.unmap(BigInt(request.address), request.length)
      return { what: 'done' }
    }
    case 'protect':
      memory.protect(BigInt(request.address), request.length, request.access)
      return { what: 'done' }
    case 'resolve':
      return { what: 'done', addresses: request.names.map((name) => String(dlsym(0n, name))) }
    case 'execute':
      execute()
      return { what: 'done' }
  }
}

function send(reply: Reply): void {
  process.send?.(reply)
}

process.on('message', (request: Request) => {
  try {
    send(serve(request))
  } catch (error) {
    const code = error instanceof RelocError ? error.code : 'unsupported'
    send({ what: 'failed', code, message: error instanceof Error ? error.message : String(error) })
  }
})
process.on('disconnect', () => process.exit(0))
send({ what: 'hello', cpu: start() })
