/**
 * x64-reloc: machine code that can be moved.
 *
 * Words. A *blob* is a run of machine code, and data between it, with a *base*, the address of byte 0; an
 * *offset* counts bytes from there; a *delta* is new base - old base. A *move* says that an address range now
 * lives elsewhere. A *site* is a field whose value depends on where something is: it has a *target* and,
 * where it is relative, an *anchor*; a *fixup* writes its new value. The *relocation table* holds the sites
 * that moves of its *coverage* could change. *Internal* targets lie in the blob, *external* ones do not. An
 * *entry* is an offset where execution is known to start.
 */
export { type AnalyzeOptions, analyze } from './analyze/analyze.ts'
export { type Explanation, explain } from './analyze/explain.ts'
export type { FieldReading } from './analyze/explain-field.ts'
export type { FlowStep, Reading } from './analyze/explain-reading.ts'
export type { Hints, RangeHint } from './analyze/hints.ts'
export type { Reason } from './analyze/judge.ts'
export type { JumpTable } from './analyze/jump-tables.ts'
export type { AddressLike } from './core/address.ts'
export { formatProblem, type Problem, RelocError, type RelocErrorCode } from './core/errors.ts'
export type { ProgressOptions } from './core/progress.ts'
export type { AddressRange, Move, MovedRange } from './core/range.ts'
export { type CopiedRuns, type CopyRunsOptions, copyRuns } from './edit/copy-runs.ts'
export type { SymbolAddresses } from './elf/definitions.ts'
export {
  type PlacedObject,
  type PlacedPart,
  type PlaceOptions,
  placeObject,
} from './elf/place.ts'
export type { BlobRange } from './elf/ranges.ts'
export type { BlobSymbol } from './elf/symbol-list.ts'
export type { CodeInput } from './heap/admit.ts'
export { CodeHeap, type CodePlace, type HeapOptions, type RootOptions } from './heap/heap.ts'
export type { Callee, HeapMemory } from './heap/memory.ts'
export type { CompactOptions, CompactReport, ObjectMoveOptions } from './heap/movement.ts'
export { nativeUnavailable } from './heap/native/memory.ts'
export { JitDump, PerfMap } from './heap/native/perf.ts'
export { type NativeOptions, nativeMemory } from './heap/native/reservation.ts'
export type { Block, CodeHandle } from './heap/object.ts'
export type { Budget, CompactMode } from './heap/plan.ts'
export type { CodeMove, SideTable } from './heap/side-tables.ts'
export { type SimulatedOptions, simulatedMemory } from './heap/simulated.ts'
export type { Violation } from './heap/verify.ts'
export { type MoveOptions, type MoveResult, move } from './move.ts'
export { type NearOptions, type NearPlace, nearestPlace, relocateNear } from './relocate/near.ts'
export type { PositionMap, Side } from './relocate/positions.ts'
export type { FarSite } from './relocate/reach.ts'
export { type RelocateOptions, type Relocation, relocate } from './relocate/relocate.ts'
export type { VeneerBytes, VeneerOptions } from './relocate/veneers.ts'
export type { BlobOptions } from './table/builder.ts'
export type { FromPairOptions } from './table/from-pair.ts'
export type { FromSitesOptions, SiteInput } from './table/from-sites.ts'
export type { TableJson } from './table/json.ts'
export type { SiteKind } from './table/kinds.ts'
export type { AddressEvidence, CodeEvidence, Evidence, Site, SplitPiece } from './table/site.ts'
export { type CodeRun, RelocationTable } from './table/table.ts'
export { type Verdict, type VerifyOptions, verify } from './verify/verify.ts'
export type { Cpu, DecoderKind } from './x86/instruction.ts'
export { type SweepOptions, type SweepResult, sweep } from './x86/sweep.ts'
