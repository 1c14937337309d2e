/** What the CPU of the child can do, from CPUID and XCR0, under the names of /proc/cpuinfo. */
import { type StateLayout, XSAVE_COMPONENTS, type XsaveComponent } from './state.ts'

/** eax, ebx, ecx, edx. */
type CpuidRegisters = readonly [number, number, number, number]

const EBX = 1
const ECX = 2
const EDX = 3

/** Leaf, subleaf, register, bit. Vector features are also subject to XCR0, see `usable`. */
const FEATURES: Readonly<Record<string, readonly [number, number, number, number]>> = {
  mmx: [1, 0, EDX, 23],
  sse3: [1, 0, ECX, 0],
  pclmulqdq: [1, 0, ECX, 1],
  ssse3: [1, 0, ECX, 9],
  fma: [1, 0, ECX, 12],
  cx16: [1, 0, ECX, 13],
  sse4_1: [1, 0, ECX, 19],
  sse4_2: [1, 0, ECX, 20],
  movbe: [1, 0, ECX, 22],
  popcnt: [1, 0, ECX, 23],
  aes: [1, 0, ECX, 25],
  avx: [1, 0, ECX, 28],
  f16c: [1, 0, ECX, 29],
  rdrand: [1, 0, ECX, 30],
  bmi1: [7, 0, EBX, 3],
  hle: [7, 0, EBX, 4],
  avx2: [7, 0, EBX, 5],
  bmi2: [7, 0, EBX, 8],
  rtm: [7, 0, EBX, 11],
  avx512f: [7, 0, EBX, 16],
  avx512dq: [7, 0, EBX, 17],
  rdseed: [7, 0, EBX, 18],
  adx: [7, 0, EBX, 19],
  avx512ifma: [7, 0, EBX, 21],
  clflushopt: [7, 0, EBX, 23],
  clwb: [7, 0, EBX, 24],
  avx512cd: [7, 0, EBX, 28],
  sha_ni: [7, 0, EBX, 29],
  avx512bw: [7, 0, EBX, 30],
  avx512vl: [7, 0, EBX, 31],
  avx512vbmi: [7, 0, ECX, 1],
  waitpkg: [7, 0, ECX, 5],
  avx512_vbmi2: [7, 0, ECX, 6],
  gfni: [7, 0, ECX, 8],
  vaes: [7, 0, ECX, 9],
  vpclmulqdq: [7, 0, ECX, 10],
  avx512_vnni: [7, 0, ECX, 11],
  avx512_bitalg: [7, 0, ECX, 12],
  avx512_vpopcntdq: [7, 0, ECX, 14],
  rdpid: [7, 0, ECX, 22],
  movdiri: [7, 0, ECX, 27],
  movdir64b: [7, 0, ECX, 28],
  serialize: [7, 0, EDX, 14],
  ibt: [7, 0, EDX, 20],
  avx512_fp16: [7, 0, EDX, 23],
  avx_vnni: [7, 1, 0, 4],
  avx512_bf16: [7, 1, 0, 5],
  lahf_lm: [0x80000001, 0, ECX, 0],
  lzcnt: [0x80000001, 0, ECX, 5],
  sse4a: [0x80000001, 0, ECX, 6],
  '3dnowprefetch': [0x80000001, 0, ECX, 8],
  xop: [0x80000001, 0, ECX, 11],
  fma4: [0x80000001, 0, ECX, 16],
  tbm: [0x80000001, 0, ECX, 21],
  rdtscp: [0x80000001, 0, EDX, 27],
  '3dnow': [0x80000001, 0, EDX, 31],
}

/** Encoded with VEX or XOP, but by a name that does not begin with "avx". */
const NEEDS_AVX = ['fma', 'f16c', 'vaes', 'vpclmulqdq', 'xop', 'fma4', 'bmi1', 'bmi2', 'tbm']
const AVX512_MASK = 0b1110_0110
const AVX_MASK = 0b110
/** x87 and SSE: in every XSAVE area. */
const BASE_MASK = 0b11
const LEGACY_SIZE = 576

export interface Cpu {
  readonly features: readonly string[]
  readonly layout: StateLayout
}

/** Reads what the CPU has and the system enabled; throws where there is no XSAVE. */
export function readCpu(cpuid: (leaf: number, subleaf: number) => CpuidRegisters, xgetbv: () => bigint): Cpu {
  const OSXSAVE = 1 << 27
  if ((cpuid(1, 0)[ECX] & OSXSAVE) === 0) throw new Error('the CPU or the system has no XSAVE')
  const enabled = Number(xgetbv())
  const highest = cpuid(0, 0)[0]
  const usable = (name: string): boolean => {
    if (name.startsWith('avx512')) return (enabled & AVX512_MASK) === AVX512_MASK
    return !(name.startsWith('avx') || NEEDS_AVX.includes(name)) || (enabled & AVX_MASK) === AVX_MASK
  }
  const features = Object.entries(FEATURES)
    .filter(([name, [leaf, subleaf, register, bit]]) => {
      if (leaf < 0x80000000 && leaf > highest) return false
      return usable(name) && ((cpuid(leaf, subleaf)[register] >>> bit) & 1) === 1
    })
    .map(([name]) => name)
  return { features, layout: readLayout(cpuid, enabled) }
}

function readLayout(cpuid: (leaf: number, subleaf: number) => CpuidRegisters, enabled: number): StateLayout {
  let mask = BASE_MASK
  let xsaveSize = LEGACY_SIZE
  const offsets: Record<XsaveComponent, number> = { avx: -1, opmask: -1, zmmHigh: -1, zmm16: -1 }
  for (const name of Object.keys(XSAVE_COMPONENTS) as XsaveComponent[]) {
    const bit = XSAVE_COMPONENTS[name]
    if ((enabled & (1 << bit)) === 0) continue
    const [size, offset] = cpuid(0xd, bit)
    mask |= 1 << bit
    offsets[name] = offset
    xsaveSize = Math.max(xsaveSize, offset + size)
  }
  return { xsaveSize, mask, offsets }
}
