/** Code decoded ahead, as the command's second thread does it. */
import { type Ahead, AheadDecoder } from '../../src/verify/ahead.ts'

export function decodedAhead(code: Uint8Array): Ahead {
  const words = new Uint8Array(code.length)
  const decoder = new AheadDecoder({ code, words })
  decoder.all()
  decoder.dispose()
  return { words }
}
