/** Instructions of every encoding, and what linkers make of whole programs. */
import { CodeHeap } from '../../../src/heap/heap.ts'
import { RelocationTable } from '../../../src/table/table.ts'
import { type Fixture, loadFixtures } from '../../support/fixtures.ts'
import { runsOf, truthOf } from '../../support/sabotage.ts'
import { World } from '../support/world.ts'
import { BOTH, type Family, LOW, must } from './family.ts'

const encodings: Family = {
  name: 'encodings',
  title: 'fields of every kind in every encoding hold what arithmetic says, every other byte is what it was',
  makers: BOTH,
  run(run) {
    const { next } = run
    const memory = run.memory(64 << 10, LOW, true)
    const world = new World(run.seed, memory)
    for (let i = 0; i < 12; i++) {
      world.addInstructions(1 + next(3), next(2) === 0)
      const { handle } = world.things[next(world.things.length)]
      const pick = next(5)
      if (pick === 0) run.count('moves', world.heap.compact({ mode: 'slide' }).moves.length)
      else if (pick === 1) world.spread()
      else if (pick === 2) world.heap.move(handle!, { mode: 'drain' })
      else if (pick === 3) {
        const by = BigInt(64 * next(100))
        world.heap.forwardRoots((address) => address + by)
        for (const root of world.roots) root.address += by
      } else world.free()
      world.check()
    }
    run.count('objects', world.events.length)
    world.finish()
  },
}

/** Without the one whose outside lies beside it, where the heap is. */
const FIXTURES: readonly Fixture[] = loadFixtures().filter(({ name }) => name !== 'near-text')

/** Whole programs with their tables and literals, at the places for which the linker made them once more. */
const linked: Family = {
  name: 'linked',
  title: 'what was linked for one place is in the heap, at another, what the linker makes for that',
  makers: ['simulated'],
  run(run) {
    const fixture = FIXTURES[run.seed % FIXTURES.length]
    const [from, ...others] = fixture.links
    for (const to of others) {
      // The place, and room beside it.
      const start = (to.base - 0x10000n) & ~0xfffn
      const span = Math.ceil((fixture.span + 0x20000) / 0x1000) * 0x1000
      const memory = run.memory(span, start)
      const heap = new CodeHeap(memory)
      const bytes = new Uint8Array(fixture.span)
      bytes.set(from.bytes)
      const table = RelocationTable.fromSites(truthOf(fixture), {
        code: bytes,
        base: from.base,
        moved: heap.moved(from.base, bytes.length),
        runs: runsOf(fixture),
      })
      const handle = heap.add({ bytes, base: from.base, table })
      for (let i = 0; i < 3; i++) heap.move(handle, { to: start + BigInt(16 * run.next(0xc00)) })
      heap.move(handle, { to: to.base })
      const position = Number(to.base - memory.base)
      const now = memory.bytes.subarray(position, position + to.bytes.length)
      must(Buffer.compare(now, to.bytes) === 0, `${fixture.name} is not what the linker made`)
      must(heap.verify().length === 0, 'not verified')
      run.count('linked')
    }
  },
}

export const ENCODINGS: readonly Family[] = [encodings, linked]
