/** Compares the effects tables with iced's instruction information. */
import * as iced from 'iced-x86'
import { hexBytes } from '../../src/core/bytes.ts'
import { fillEffects, RegisterEffects } from '../../src/x86/effects.ts'
import { Instruction } from '../../src/x86/instruction.ts'
import { createTableDecoder } from '../../src/x86/scanner.ts'

const { OpAccess } = iced
const READS = new Set<number>([OpAccess.Read, OpAccess.CondRead, OpAccess.ReadWrite, OpAccess.ReadCondWrite])
const WRITES = new Set<number>([
  OpAccess.Write,
  OpAccess.CondWrite,
  OpAccess.ReadWrite,
  OpAccess.ReadCondWrite,
])

/** What iced says. Registers that matter whatever they hold (`xor eax, eax`) it does not count as read. */
export class IcedEffects {
  reads = 0
  writes = 0
  readsFlags = false
  writesFlags = false
  readonly #factory = new iced.InstructionInfoFactory()

  fill(instruction: iced.Instruction): void {
    const info = this.#factory.info(instruction)
    this.reads = 0
    this.writes = 0
    for (const used of info.usedRegisters() as iced.UsedRegister[]) {
      if (iced.RegisterExt.isGPR(used.register)) {
        const bit = 1 << (iced.RegisterExt.fullRegister(used.register) - iced.Register.RAX)
        if (READS.has(used.access)) this.reads |= bit
        if (WRITES.has(used.access)) this.writes |= bit
      }
      used.free()
    }
    this.readsFlags = instruction.rflagsRead !== 0
    this.writesFlags = instruction.rflagsModified !== 0
    info.free()
  }

  free(): void {
    this.#factory.free()
  }
}

/**
 * Compares every valid instruction at `offsets`. Differences that are meant are none: iced drops the read of a register
 * that the result does not depend on (`xor eax, eax`), and the flags of a shift by an immediate 0.
 */
export function compareEffects(
  code: Uint8Array,
  offsets: Iterable<number>,
  most = 20,
): { count: number; differences: string[] } {
  const decoder = new iced.Decoder(64, code, iced.DecoderOptions.None)
  const record = new iced.Instruction()
  const expected = new IcedEffects()
  const tables = createTableDecoder(code)
  const instruction = new Instruction()
  const actual = new RegisterEffects()
  const differences: string[] = []
  let count = 0
  for (const offset of offsets) {
    if (differences.length >= most) break
    if (tables.decode(offset, instruction) === 0) continue
    decoder.position = offset
    decoder.decodeOut(record)
    fillEffects(instruction, actual)
    expected.fill(record)
    count++
    const sameRegister = instruction.modrm >= 0xc0
    const noShift = instruction.immediateSize === 1
    const equal =
      (expected.reads & ~actual.reads) === 0 &&
      (expected.reads === actual.reads || sameRegister) &&
      expected.writes === actual.writes &&
      (expected.readsFlags === actual.readsFlags || noShift || sameRegister) &&
      (expected.writesFlags === actual.writesFlags || noShift)
    if (!equal)
      differences.push(
        `${hexBytes(code, offset, offset + instruction.length)} ${iced.Code[record.code]}: ` +
          `reads ${actual.reads.toString(16)} (iced ${expected.reads.toString(16)}), writes ${actual.writes.toString(16)} ` +
          `(${expected.writes.toString(16)}), flags ${actual.readsFlags},${actual.writesFlags} (${expected.readsFlags},${expected.writesFlags})`,
      )
  }
  expected.free()
  record.free()
  decoder.free()
  return { count, differences }
}
