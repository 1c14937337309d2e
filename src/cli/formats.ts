/** Files of other formats, by how they begin. What they hold beside code would be moved as if it were code. */
import { hexBytes, viewOf } from '../core/bytes.ts'

const CUT_OUT = 'Give its code alone (objcopy -O binary -j .text).'

interface Format {
  readonly name: string
  /** Hex of the first bytes. */
  readonly magic: string
  readonly remedy: string
}

const FORMATS: readonly Format[] = [
  { name: 'a Mach-O file (macOS)', magic: 'cffaedfe', remedy: CUT_OUT },
  { name: 'a Mach-O file for several processors (macOS)', magic: 'cafebabe', remedy: CUT_OUT },
  {
    name: 'a library of object files',
    magic: '213c617263683e0a',
    remedy: 'Take its objects out (ar x) and link them (ld -r).',
  },
]

/** `MZ`, and at the offset that it names `PE\0\0`. */
function isPe(bytes: Uint8Array): boolean {
  if (bytes.length < 64 || hexBytes(bytes, 0, 2) !== '4d5a') return false
  const header = viewOf(bytes).getUint32(60, true)
  return hexBytes(bytes, header, header + 4) === '50450000'
}

/** What the file is and what to do instead, as two sentences; undefined where it may be raw bytes. */
export function otherFormat(bytes: Uint8Array): string | undefined {
  const start = hexBytes(bytes, 0, 8)
  const found = FORMATS.find(({ magic }) => start.startsWith(magic))
  const pe = isPe(bytes) ? { name: 'a PE file (Windows)', remedy: CUT_OUT } : undefined
  const format = found ?? pe
  return (
    format &&
    `${format.name}, of which only its code could be moved. ${format.remedy} If it is to be taken as it is, say --raw.`
  )
}
