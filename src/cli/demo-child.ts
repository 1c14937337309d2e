/** The process in which the demo runs code: maps what it is sent, calls what it is told, sends back what rax held. */
import { type Access, NativeMemory } from '../heap/native/memory.ts'

export interface Job {
  /** Memory to be there, each from a page's start. */
  readonly pieces: readonly {
    readonly address: bigint
    /** Bytes; zeros follow where it is longer than `bytes`. */
    readonly length: number
    readonly access: Access
    readonly bytes: Uint8Array
  }[]
  /** Functions to call, in order. */
  readonly calls: readonly { readonly address: bigint; readonly args: readonly bigint[] }[]
}

process.once('message', (job: Job) => {
  const memory = new NativeMemory()
  for (const { address, length, access, bytes } of job.pieces) {
    memory.map(address, length)
    memory.write(address, bytes)
    memory.protect(address, length, access)
  }
  const results = job.calls.map(({ address, args }) => memory.call(address, args))
  process.send?.(results, () => process.disconnect())
})
