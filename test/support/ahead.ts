/** Code decoded ahead, as the command's second thread does it. */
import { AheadDecoder, type AheadWords } from '../../src/verify/ahead.ts'

export function decodedAhead(code: Uint8Array): AheadWords {
  const words = new Uint16Array(code.length)
  const decoder = new AheadDecoder({ code, words })
  decoder.all()
  decoder.dispose()
  return words
}
