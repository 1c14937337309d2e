/**
 * Language-specific data (LSDA, .gcc_except_table): which calls of a function have a landing pad, and what
 * they catch there. Format: that of gcc's libsupc++ (eh_personality) and of LLVM's "Exception Handling
 * Tables"; the same in C++, D, Ada and Rust.
 *
 *     encoding of the landing pads' base (or none), the base,
 *     encoding of the types (or none), distance from here to the types' end,
 *     encoding of the call sites, their bytes, call sites: start, length, landing pad, action (1-based offset, 0: none)
 *     actions: filter, distance to the next
 *     padding, types: filter n is the n-th pointer before their end
 */
import { EncodedCursor, type EncodedPointer, OMITTED } from './encoded-pointer.ts'

const ULEB = 1
const UDATA4 = 3
/** More actions or types than any function has. */
const MOST = 1024

/** Where language data ends, and the pointers to types in it. */
export interface LanguageData {
  readonly end: number
  readonly types: readonly EncodedPointer[]
}

/** The language data at offset `at` of `view`, whose byte 0 is at `bias`; undefined where these bytes are none. */
export function readLanguageData(view: DataView, at: number, bias: bigint): LanguageData | undefined {
  const cursor = new EncodedCursor(view, at, view.byteLength, bias)
  if (cursor.byte() !== OMITTED) return undefined
  const types = cursor.byte()
  const distance = types === OMITTED ? 0 : cursor.uleb()
  const typesEnd = cursor.at + distance
  const encoding = cursor.byte()
  if (encoding !== ULEB && encoding !== UDATA4) return undefined
  const bytes = cursor.uleb()
  const actions = cursor.at + bytes
  if (actions > view.byteLength || !readCallSites(cursor, encoding, actions)) return undefined
  return types === OMITTED ? { end: actions, types: [] } : readTypes(view, { types, typesEnd, actions, bias })
}

/** Whether call sites, ascending, end at `end`. */
function readCallSites(cursor: EncodedCursor, encoding: number, end: number): boolean {
  const number = (): number => (encoding === ULEB ? cursor.uleb() : Number(cursor.number(UDATA4)?.value ?? 0))
  let last = 0
  while (cursor.at < end) {
    const start = number()
    const length = number()
    number()
    const action = cursor.uleb()
    if (start < last || length === 0 || action > MOST) return false
    last = start + length
  }
  return cursor.at === end && last > 0
}

/**
 * The highest filter of the actions, which fill the bytes from `start` to the padding before the types. Not
 * every action need be reached: GNAT's call sites name none and their types are used all the same.
 */
function readActions(view: DataView, start: number, typesEnd: number, width: number): number {
  const cursor = new EncodedCursor(view, start, typesEnd, 0n)
  let highest = 0
  while (cursor.at < typesEnd - highest * width) {
    const filter = cursor.sleb()
    cursor.sleb()
    if (filter <= MOST) highest = Math.max(highest, filter)
  }
  return highest
}

interface TypesInput {
  readonly types: number
  readonly typesEnd: number
  readonly actions: number
  readonly bias: bigint
}

function readTypes(view: DataView, input: TypesInput): LanguageData | undefined {
  const { types, typesEnd, actions, bias } = input
  if (typesEnd < actions || typesEnd > view.byteLength) return undefined
  const probe = new EncodedCursor(view, typesEnd - 8, typesEnd, bias).number(types)
  if (probe === undefined) return undefined
  const filter = readActions(view, actions, typesEnd, probe.width)
  if (typesEnd - filter * probe.width < actions) return undefined
  const found: EncodedPointer[] = []
  for (let n = filter; n > 0; n--) {
    const at = typesEnd - n * probe.width
    const cursor = new EncodedCursor(view, at, typesEnd, bias)
    const pointer = cursor.pointer(types)
    if (pointer === undefined) return undefined
    // 0 catches everything.
    const isNull = pointer.target === (pointer.relative ? pointer.address : 0n)
    if (!isNull) found.push(pointer)
  }
  return { end: typesEnd, types: found }
}
