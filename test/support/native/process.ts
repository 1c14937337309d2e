/** The child process of the harness: how it is started, how it answers, where its heap lies. */
import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Reply } from './protocol.ts'

/** Starts a child that finds the batches in `file`. */
export function startProcess(file: number): ChildProcess {
  const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href
  return fork(fileURLToPath(new URL('./child.ts', import.meta.url)), {
    execArgv: ['--import', loader],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', file],
  })
}

/** How a child ended that should have answered. */
export class Lost extends Error {
  readonly how: 'hang' | 'died'

  constructor(how: 'hang' | 'died') {
    super(`the child ${how === 'hang' ? 'took too long' : 'died'}`)
    this.how = how
  }
}

/** The next message of the child; rejects with `Lost` when it ends or takes too long (it is killed then). */
export function answerOf(child: ChildProcess | undefined, timeout: number): Promise<Reply> {
  if (child === undefined) return Promise.reject(new Error('the harness is closed'))
  child.ref()
  child.channel?.ref()
  return new Promise<Reply>((resolve, reject) => {
    let how: Lost['how'] = 'died'
    const onMessage = (reply: unknown): void => {
      finish()
      resolve(reply as Reply)
    }
    const onExit = (): void => {
      finish()
      reject(new Lost(how))
    }
    const timer = setTimeout(() => {
      how = 'hang'
      child.kill('SIGKILL')
    }, timeout)
    const finish = (): void => {
      clearTimeout(timer)
      child.off('message', onMessage)
      child.off('exit', onExit)
      // An idle child keeps no test runner alive.
      child.unref()
      child.channel?.unref()
    }
    child.on('message', onMessage)
    child.on('exit', onExit)
  })
}

/** Bytes by which the heap of a child may still grow. */
const GROWTH = 1n << 25n

/**
 * Whether something of the process lies in [start, start + length), or its heap grows into it: Linux begins
 * that anywhere in the GiB behind a program, and V8 takes places at random.
 */
export function isTaken(pid: number, start: bigint, length: number): boolean {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8')
  return [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) .*?(\[heap\])?$/gm)].some(
    ([, first, end, isHeap]) =>
      BigInt(`0x${first}`) < start + BigInt(length) &&
      start < BigInt(`0x${end}`) + (isHeap === undefined ? 0n : GROWTH),
  )
}
