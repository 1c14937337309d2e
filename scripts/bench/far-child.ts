/**
 * A child of the benchmark: loops over an instruction with an operand or a target out of reach, at home and
 * 100 GB away. Prints nanoseconds of a round, of the fastest of several runs of ten million: what the others
 * take longer is other processes.
 */
import { NativeMemory } from '../../src/heap/native/memory.ts'
import { RelocationTable, relocate } from '../../src/index.ts'
import type { HotLoop } from './far.ts'

const HOME = 0x4000_0000_0000n
const FAR: bigint = HOME + (100n << 30n)
const DATA: bigint = HOME + 0x10_0000n
const CALLEE: bigint = HOME + 0x20_0000n
const COUNT = 10_000_000n

/** The body of each loop, with `d` for the displacement to data or callee. */
const LOOPS: readonly (readonly [name: string, body: string, target: bigint])[] = [
  ['calls: call callee', 'e8 d', CALLEE],
  ['indirect calls: call [rip+d]', 'ff 15 d', DATA + 64n],
  ['addresses: lea rax, [rip+d]', '48 8d 05 d', DATA],
  ['loads: mov rax, [rip+d]', '48 8b 05 d', DATA],
  ['stores: mov [rip+d], rdi', '48 89 3d d', DATA],
  ['sums: add rax, [rip+d]', '48 03 05 d', DATA],
]
const hex = (text: string): number[] => text.split(' ').map((byte) => Number.parseInt(byte, 16))

const memory = new NativeMemory()

function place(at: bigint, bytes: Uint8Array): void {
  memory.map(at, 4096)
  memory.write(at, bytes)
  memory.protect(at, 4096, 'rx')
}

/** loop: body; dec rdi; jnz loop; ret */
function program(body: string, target: bigint): { code: Uint8Array; table: RelocationTable } {
  const [head] = body.split(' d')
  const opcode = hex(head)
  const length = opcode.length + 4
  const code = Uint8Array.from([...opcode, 0, 0, 0, 0, ...hex('48 ff cf 75'), -(length + 5) & 0xff, 0xc3])
  new DataView(code.buffer).setInt32(opcode.length, Number(target - HOME) - length, true)
  const runs = [{ start: 0, end: code.length }]
  const table = RelocationTable.fromSites([{ offset: opcode.length, kind: 'pc32' }], {
    code,
    base: HOME,
    runs,
  })
  return { code, table }
}

function time(at: bigint): number {
  const start = process.hrtime.bigint()
  memory.call(at, [COUNT])
  return Number(process.hrtime.bigint() - start) / Number(COUNT)
}

memory.map(DATA, 4096)
const slot = new Uint8Array(8)
new DataView(slot.buffer).setBigUint64(0, CALLEE, true)
memory.write(DATA + 64n, slot)
place(CALLEE, Uint8Array.of(0xc3))
const rounds = Number(process.argv[2] ?? '5')
const results = LOOPS.map(([name, body, target]): HotLoop => {
  const { code, table } = program(body, target)
  const moved = relocate(code, table, { to: FAR, veneers: { at: FAR + 0x40n } })
  const away = new Uint8Array(4096)
  away.set(moved.bytes)
  away.set(moved.veneers!.bytes, 0x40)
  place(HOME, code)
  place(FAR, away)
  time(HOME)
  time(FAR)
  const times = Array.from({ length: rounds }, () => [time(HOME), time(FAR)] as const)
  memory.unmap(HOME, 4096)
  memory.unmap(FAR, 4096)
  return {
    name,
    home: Math.min(...times.map(([home]) => home)),
    far: Math.min(...times.map(([, far]) => far)),
  }
})
console.log(JSON.stringify(results))
