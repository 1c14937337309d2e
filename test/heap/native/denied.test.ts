import { describe, expect, it } from 'vitest'
import { nativeUnavailable, THIS_MACHINE } from '../../../src/heap/native/machine.ts'
import { nativeMemory } from '../../../src/heap/native/reservation.ts'
import { runScenario } from './run.ts'

const reason = nativeUnavailable()
const LONG = { timeout: 60_000 }
const SURVIVED = { wrong: 0, moved: 3, violations: 0, live: '42' }

describe('another machine', () => {
  it.each([
    [{ platform: 'darwin' }, /needs Linux on x86-64; this is darwin x64/],
    [{ platform: 'win32' }, /this is win32 x64/],
    [{ arch: 'arm64' }, /this is linux arm64/],
  ])('%o has no native memory and says so at once', (other, message) => {
    const machine = { ...THIS_MACHINE, platform: 'linux', arch: 'x64', ...other }
    expect(() => nativeMemory({}, machine)).toThrow(
      expect.objectContaining({ code: 'unsupported', message: expect.stringMatching(message) }),
    )
  })

  it('without koffi says that', () => {
    const koffi = (): never => {
      throw new Error("Cannot find module 'koffi'\nRequire stack: ...")
    }
    const machine = { ...THIS_MACHINE, platform: 'linux', arch: 'x64', koffi }
    expect(nativeUnavailable(machine)).toBe(
      "the optional dependency koffi does not load (Cannot find module 'koffi')",
    )
  })
})

describe.skipIf(reason !== undefined)(
  `a system that refuses${reason === undefined ? '' : `: ${reason}`}`,
  () => {
    it(
      'files in memory: pages are written and executed in turn, never both, in one thread',
      LONG,
      async () => {
        expect(await runScenario('survivesWithoutFiles')).toEqual({
          ...SURVIVED,
          oneThread: 'pages that are written cannot be executed meanwhile',
          outside: ['---p', 'r-xp'],
          inside: ['---p', 'r-xp', 'rw-p'],
          held: 'unsupported',
        })
      },
    )

    it('membarrier: this thread serialises, and no other may run code', LONG, async () => {
      expect(await runScenario('survivesWithoutBarrier')).toEqual({
        ...SURVIVED,
        oneThread: expect.stringMatching(/other threads cannot be told of new code .*EPERM/),
        outside: ['---s', 'r-xs'],
        inside: ['---s', 'r-xs'],
        held: 'unsupported',
      })
    })

    it(
      'that pages become executable (PR_SET_MDWE): two views need none; without files nothing is left',
      LONG,
      async ({ skip }) => {
        if (!(await runScenario('hasMdwe'))) skip('this kernel has no PR_SET_MDWE')
        expect(await runScenario('survivesWithoutGain', { flags: ['--jitless'] })).toEqual({
          ...SURVIVED,
          outside: ['---s', 'r-xs'],
          inside: ['---s', 'r-xs'],
          held: 'none',
          without: 'unsupported',
        })
      },
    )

    it(
      'address space, then executable pages: a typed error with every reason, and nothing stays mapped or open',
      LONG,
      async () => {
        const { codes, messages, left } = await runScenario('refuses')
        expect(codes).toEqual(['unsupported', 'none', 'unsupported'])
        expect(messages[0]).toMatch(/neither .* mmap failed: ENOMEM.*mmap failed: ENOMEM/)
        expect(messages[1]).toMatch(/memfd_create failed: EPERM.*mprotect failed: EACCES/)
        expect(left).toBe(0)
      },
    )

    it(
      'to write, later on: what is there runs, nothing is half done, what was freed waits',
      LONG,
      async () => {
        const refused = new Array(4).fill('unsupported')
        expect(await runScenario('deniedLater')).toEqual({
          codes: [...refused, 'none', 'stale', 'none'],
          results: ['1', '0'],
          violations: 0,
          deallocs: 0,
        })
      },
    )

    it('any one call, each in its turn: the heap is whole, and trying again helps', LONG, async () => {
      const { programs, refused, wrong, left } = await runScenario('everyCallFails')
      expect({ wrong, left }).toEqual({ wrong: [], left: 0 })
      expect(refused).toBeGreaterThan(10)
      expect(programs).toBeGreaterThan(refused)
    })

    it('nothing: a forked child has no view to write through', LONG, async () => {
      expect(await runScenario('forked')).toEqual({ signal: 11, same: true })
    })
  },
)
