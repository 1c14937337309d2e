import { describe, expect, it } from 'vitest'
import { nativeUnavailable } from '../../../src/heap/native/machine.ts'
import { runScenario } from './run.ts'

const reason = nativeUnavailable()
const LONG = { timeout: 60_000 }

describe.skipIf(reason !== undefined)(`frames that move${reason === undefined ? '' : `: ${reason}`}`, () => {
  it(
    'what code is building the address of stays, sliding and draining; the code itself moves',
    LONG,
    async () => {
      const stays = { kept: ['callee: running'], result: '42 42 0' }
      expect(await runScenario('tornCallee')).toEqual({ slide: stays, drain: stays })
    },
  )

  it('a root in pieces changes only while nothing stands among them; the others do', LONG, async () => {
    expect(await runScenario('tornRoot')).toEqual({
      inside: {
        all: 'refused',
        patch: 'refused',
        words: 'refused',
        held: [(0x7000_0000_0000).toString()],
        others: 1,
      },
      results: ['10', '28', '20', '28', '18'],
      violations: 0,
    })
  })

  it(
    'a frame that only rbp leads through is walked where the object declares that, and pins where not',
    LONG,
    async () => {
      expect(await runScenario('framePointers')).toEqual({
        declared: { result: '42', kept: [], moved: 3 },
        undeclared: { result: '42', kept: ['middle: running', 'outer: running'], moved: 1 },
      })
    },
  )

  it(
    'a shadow stack, or not to tell of one: slides are refused while code runs, draining goes on',
    LONG,
    async () => {
      const { slide, drain, unknown } = await runScenario('shadowStack')
      expect(slide).toMatch(/keeps a shadow stack.*only mode 'drain'/)
      expect(unknown).toMatch(/does not tell.*only mode 'drain'/)
      expect(drain).toBe('1')
    },
  )
})
