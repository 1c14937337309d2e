/**
 * The two ways between the heap and everything else, as code that never moves. They leave a trail on the
 * stack, so that frames of moved code can be found: the control block (two words of memory that is not
 * executable) holds the rbp of the exit frame that was made last, 0 while code of the heap runs, and that of
 * the entry frame below it.
 *
 * Both frames, from rbp down:   +16 (entry) the function to call   +8 return address   0 rbp   -8 rbx   -16 r12   -24 r13   -32 r14
 *                               -40 r15   -48 exit before   -56 entry before
 *
 * They save every register that a callee preserves and restore it from there: whatever a C function below an
 * exit frame has saved of them is dead, so all words that matter lie between the exit frame and its entry
 * frame.
 */

export const FRAME = { returnAddress: 8n, previousExit: -48n, previousEntry: -56n } as const

const word = (value: bigint): number[] => [...new Uint8Array(new BigUint64Array([value]).buffer)]

/** push rbp; mov rbp,rsp; push rbx, r12..r15; mov r11,control; push [r11]; push [r11+8]. */
const prologue = (control: bigint): number[] => [
  ...[0x55, 0x48, 0x89, 0xe5, 0x53, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57],
  ...[0x49, 0xbb, ...word(control), 0x41, 0xff, 0x33, 0x41, 0xff, 0x73, 0x08],
]

/** lea rsp,[rbp-56]; mov r11,control; pop [r11+8]; pop [r11]; pop r15..r12, rbx, rbp; ret. */
const epilogue = (control: bigint): number[] => [
  ...[0x48, 0x8d, 0x65, 0xc8, 0x49, 0xbb, ...word(control), 0x41, 0x8f, 0x43, 0x08, 0x41, 0x8f, 0x03],
  ...[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5b, 0x5d, 0xc3],
]

/** `f(a0, ..., a5, target)`: calls `target(a0, ..., a5)`. */
export function entryStub(control: bigint): { readonly code: Uint8Array; readonly returnPoint: number } {
  const before = [
    ...prologue(control),
    ...[0x49, 0xc7, 0x03, 0, 0, 0, 0], // mov qword [r11], 0
    ...[0x49, 0x89, 0x6b, 0x08], // mov [r11+8], rbp
    ...[0x48, 0x83, 0xe4, 0xf0], // and rsp, -16
    ...[0xff, 0x55, 0x10], // call [rbp+16]
  ]
  return { code: Uint8Array.from([...before, ...epilogue(control)]), returnPoint: before.length }
}

/** Calls `target` with the integer arguments that it gets in registers. */
export const exitStub = (control: bigint, target: bigint): Uint8Array =>
  Uint8Array.from([
    ...prologue(control),
    ...[0x49, 0x89, 0x2b], // mov [r11], rbp
    ...[0x48, 0x83, 0xe4, 0xf0], // and rsp, -16
    ...[0x49, 0xba, ...word(target), 0x41, 0xff, 0xd2], // mov r10, target; call r10
    ...epilogue(control),
  ])
