/** Wrong tables and wrong results: every nth of what `npm run sabotage` does in full. */
import { describe, expect, it } from 'vitest'
import { loadFixtures } from './support/fixtures.ts'
import { gotThrough, Saboteur, tally } from './support/sabotage.ts'

const saboteurs = loadFixtures().map((fixture) => new Saboteur(fixture))

describe('sabotage', () => {
  it('the honest table of every fixture is accepted, and makes what the linker made', () => {
    for (const saboteur of saboteurs)
      expect([saboteur.fixture.name, saboteur.honest()]).toEqual([saboteur.fixture.name, 'harmless'])
  }, 60_000)

  it('verify refuses every wrong claim about a relative field or an instruction, and every wrong byte', () => {
    const attempts = saboteurs.flatMap((saboteur) => [...saboteur.attempts({ every: 37 })])
    expect(attempts.filter(gotThrough)).toEqual([])
    const counts = tally(attempts)
    const caught = (key: string): number => counts.get(key)?.get('caught') ?? 0
    for (const deed of ['drop', 'kind', 'shift', 'end', 'tamper'])
      expect([deed, caught(`${deed}: relative`)]).toEqual([
        deed,
        expect.toSatisfy((count: number) => count > 5),
      ])
    for (const deed of ['kind', 'shift', 'tamper'])
      expect(caught(`${deed}: absolute in code`)).toBeGreaterThan(5)
    expect(caught('add on opcode: opcode')).toBeGreaterThan(100)
    // What verify cannot know: that a value is no address. If this fails, it has learned to.
    expect(counts.get('drop: absolute in data')?.get('accepted')).toBeGreaterThan(5)
  }, 60_000)
})
