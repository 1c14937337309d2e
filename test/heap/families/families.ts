/** All families. */
import { ENCODINGS } from './encodings.ts'
import type { Family } from './family.ts'
import { MOVEMENT } from './movement.ts'
import { PACKING } from './packing.ts'
import { PIECES } from './pieces.ts'
import { RUNNING } from './running.ts'

export const FAMILIES: readonly Family[] = [...MOVEMENT, ...ENCODINGS, ...PACKING, ...PIECES, ...RUNNING]
