/**
 * Sabotage: for each fixture, drop each site of the linker's table, change each kind, shift each field and
 * each end by one, add sites on opcode bytes, and move with that; and change each byte of the right result.
 * Prints what became of it. Usage: sabotage.ts [--every N] [NAME...]
 */
import { parseArgs } from 'node:util'
import { loadFixtures } from '../test/support/fixtures.ts'
import { type Attempt, gotThrough, type Outcome, Saboteur, tally } from '../test/support/sabotage.ts'

const OUTCOMES: readonly Outcome[] = ['no table', 'refused', 'caught', 'harmless', 'accepted']

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { every: { type: 'string', default: '1' } },
  })
  const attempts: Attempt[] = []
  const through: string[] = []
  for (const fixture of loadFixtures()) {
    if (positionals.length > 0 && !positionals.includes(fixture.name)) continue
    const saboteur = new Saboteur(fixture)
    if (saboteur.honest() !== 'harmless') through.push(`${fixture.name}: the honest table is not accepted`)
    for (const attempt of saboteur.attempts({ every: Number(values.every) })) {
      attempts.push(attempt)
      if (gotThrough(attempt))
        through.push(
          `${fixture.name}: ${attempt.deed}, ${attempt.victim}, ${attempt.what}: ${attempt.outcome}`,
        )
    }
  }
  console.log(`${'what is done: to what'.padEnd(28)}${OUTCOMES.map((name) => name.padStart(10)).join('')}`)
  for (const [key, row] of [...tally(attempts)].sort())
    console.log(key.padEnd(28) + OUTCOMES.map((name) => String(row.get(name) ?? 0).padStart(10)).join(''))
  for (const line of through.slice(0, 50)) console.log(line)
  console.log(`${attempts.length} attempts; ${through.length} got through that verify promises to stop`)
  process.exitCode = through.length === 0 ? 0 : 1
}

main()
