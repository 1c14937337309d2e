/**
 * LLVM's C API, as far as the tests need it, through koffi: text to an object file in memory, and text to
 * code that LLVM's own JIT has placed and fixed in memory that is given to it. Declarations: llvm-c/Core.h,
 * IRReader.h, Target.h, TargetMachine.h, ExecutionEngine.h.
 */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { type NativeMemory, nativeUnavailable } from '../../../src/heap/native/memory.ts'

export interface LlvmLibrary {
  readonly version: number
  readonly path: string
}

/** The LLVM libraries of this machine that are new enough, by ascending version. */
export function findLlvm(): LlvmLibrary[] {
  if (nativeUnavailable() !== undefined) return []
  try {
    const listed = execFileSync('ldconfig', ['-p'], {
      encoding: 'utf8',
      env: { PATH: '/sbin:/usr/sbin:/bin:/usr/bin' },
    })
    const found = new Map<number, string>()
    for (const [, version, path] of listed.matchAll(
      /^\s*libLLVM(?:-|\.so\.)(\d+)[\d.]*(?:\.so[\d.]*)? .*=> (\S+)$/gm,
    ))
      if (Number(version) >= 14) found.set(Number(version), path)
    return [...found].map(([version, path]) => ({ version, path })).sort((a, b) => a.version - b.version)
  } catch {
    return []
  }
}

/** LLVMRelocMode, LLVMCodeModel, LLVMCodeGenFileType, LLVMCodeGenOptLevel. */
const RELOC_STATIC = 1
const RELOC_PIC = 2
const CODE_MODELS = { small: 3, large: 6 } as const
const OBJECT_FILE = 1
const OPTIMIZE = 2
/** In LLVMMCJITCompilerOptions, which has 24 bytes. */
const OPTIONS_SIZE = 24

export type CodeModel = keyof typeof CODE_MODELS

/** A section that the JIT asked memory for. */
export interface JitSection {
  readonly name: string
  readonly kind: 'code' | 'constants' | 'data'
  readonly address: bigint
  readonly size: number
}

/** Where the JIT puts sections: [address, size] of room for code and constants, and of room for data. */
export interface JitRoom {
  readonly code: bigint
  readonly data: bigint
  readonly size: number
}

export interface JitModule {
  readonly sections: readonly JitSection[]
  address(name: string): bigint
}

type Call = (...args: readonly (bigint | number | string | Uint8Array | null)[]) => number | bigint

export class Llvm {
  readonly #call: (signature: string) => Call
  readonly #text: (address: bigint) => string
  readonly #bytes: (address: bigint, length: number) => Uint8Array

  constructor({ path }: LlvmLibrary) {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi')
    const library = koffi.load(path)
    const functions = new Map<string, Call>()
    this.#call = (signature) => {
      const known = functions.get(signature)
      if (known !== undefined) return known
      const made = library.func(signature) as Call
      functions.set(signature, made)
      return made
    }
    this.#bytes = (address, length) => new Uint8Array(koffi.view(address, length)).slice()
    this.#text = (address) => koffi.decode(address, 'char', -1) as string
    for (const part of ['TargetInfo', 'Target', 'TargetMC', 'AsmPrinter', 'AsmParser'])
      this.#call(`void LLVMInitializeX86${part}()`)()
    this.#call('void LLVMLinkInMCJIT()')()
    this.#call('int LLVMLoadLibraryPermanently(const char *)')(null)
  }

  /**
   * Calls a function whose last arguments are places for an error message and for what it makes; throws the message.
   */
  #make(what: string, call: (message: Uint8Array, made: Uint8Array) => number | bigint): bigint {
    const [message, made] = [new Uint8Array(8), new Uint8Array(8)]
    if (Number(call(message, made)) !== 0) throw new Error(`${what}: ${this.#text(word(message))}`)
    return word(made)
  }

  #parse(text: string): bigint {
    const bytes = new TextEncoder().encode(text)
    const context = this.#call('uint64_t LLVMContextCreate()')()
    const buffer = this.#call(
      'uint64_t LLVMCreateMemoryBufferWithMemoryRangeCopy(const uint8_t *, size_t, const char *)',
    )(bytes, bytes.length, 'program')
    return this.#make('LLVMParseIRInContext', (message, made) =>
      this.#call('int LLVMParseIRInContext(uint64_t, uint64_t, uint8_t *, uint8_t *)')(
        context,
        buffer,
        made,
        message,
      ),
    )
  }

  /** The program as an object file. */
  compile(text: string, model: CodeModel, relocatable = true): Uint8Array {
    const module = this.#parse(text)
    const triple = this.#text(BigInt(this.#call('uint64_t LLVMGetDefaultTargetTriple()')()))
    const target = this.#make('LLVMGetTargetFromTriple', (message, made) =>
      this.#call('int LLVMGetTargetFromTriple(const char *, uint8_t *, uint8_t *)')(triple, made, message),
    )
    const machine = this.#call(
      'uint64_t LLVMCreateTargetMachine(uint64_t, const char *, const char *, const char *, int, int, int)',
    )(target, triple, '', '', OPTIMIZE, relocatable ? RELOC_PIC : RELOC_STATIC, CODE_MODELS[model])
    const buffer = this.#make('LLVMTargetMachineEmitToMemoryBuffer', (message, made) =>
      this.#call('int LLVMTargetMachineEmitToMemoryBuffer(uint64_t, uint64_t, int, uint8_t *, uint8_t *)')(
        machine,
        module,
        OBJECT_FILE,
        message,
        made,
      ),
    )
    const start = BigInt(this.#call('uint64_t LLVMGetBufferStart(uint64_t)')(buffer))
    return this.#bytes(start, Number(this.#call('size_t LLVMGetBufferSize(uint64_t)')(buffer)))
  }

  /** Address of a function of this process; 0 where there is none. */
  processSymbol(name: string): bigint {
    return BigInt(this.#call('uint64_t LLVMSearchForAddressOfSymbol(const char *)')(name))
  }

  /** The program, placed and fixed by LLVM in `room` of `memory`, which is `rw`; `symbols` are what it calls. */
  jit(
    text: string,
    model: CodeModel,
    memory: NativeMemory,
    room: JitRoom,
    symbols: ReadonlyMap<string, bigint>,
  ): JitModule {
    const module = this.#parse(text)
    const sections: JitSection[] = []
    const manager = this.#memoryManager(memory, room, sections)
    const options = new Uint8Array(OPTIONS_SIZE)
    const fields = new DataView(options.buffer)
    this.#call('void LLVMInitializeMCJITCompilerOptions(uint8_t *, size_t)')(options, OPTIONS_SIZE)
    fields.setUint32(0, OPTIMIZE, true)
    fields.setInt32(4, CODE_MODELS[model], true)
    fields.setBigUint64(16, manager, true)
    const engine = this.#make('LLVMCreateMCJITCompilerForModule', (message, made) =>
      this.#call('int LLVMCreateMCJITCompilerForModule(uint8_t *, uint64_t, uint8_t *, size_t, uint8_t *)')(
        made,
        module,
        options,
        OPTIONS_SIZE,
        message,
      ),
    )
    for (const [name, address] of symbols) {
      const declared = this.#call('uint64_t LLVMGetNamedFunction(uint64_t, const char *)')(module, name)
      this.#call('void LLVMAddGlobalMapping(uint64_t, uint64_t, uint64_t)')(engine, declared, address)
    }
    const address = (name: string): bigint =>
      BigInt(this.#call('uint64_t LLVMGetFunctionAddress(uint64_t, const char *)')(engine, name))
    address(/define i64 @(\w+)/.exec(text)![1])
    return { sections, address }
  }

  /** Gives sections out of `room`, one behind the other, and says which. */
  #memoryManager(memory: NativeMemory, room: JitRoom, sections: JitSection[]): bigint {
    const next = { code: room.code, data: room.data }
    const take = (kind: JitSection['kind'], size: bigint, align: bigint, name: bigint): bigint => {
      const where = kind === 'data' ? 'data' : 'code'
      const step = BigInt.asUintN(32, align) || 1n
      const address = ((next[where] + step - 1n) / step) * step
      next[where] = address + size
      if (next[where] > room[where] + BigInt(room.size)) return 0n
      sections.push({ name: this.#text(name), kind, address, size: Number(size) })
      return address
    }
    const code = memory.callback((_, size, align, __, name) => take('code', size, align, name), 5)
    const data = memory.callback(
      (_, size, align, __, name, constant) =>
        take((constant & 0xffn) === 0n ? 'data' : 'constants', size, align, name),
      6,
    )
    const finalize = memory.callback(() => 0n, 2)
    const destroy = memory.callback(() => 0n, 1)
    return BigInt(
      this.#call(
        'uint64_t LLVMCreateSimpleMCJITMemoryManager(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)',
      )(0n, code, data, finalize, destroy),
    )
  }
}

const word = (bytes: Uint8Array): bigint => new DataView(bytes.buffer).getBigUint64(0, true)
