/** Tables as files: JSON, or the binary form (.tbl), which is told apart by its first bytes. */
import { describedLength, isBinaryTable } from '../table/binary.ts'
import { binaryTableBase } from '../table/binary-read.ts'
import { RelocationTable } from '../table/table.ts'
import { type Inputs, parseJson } from './input.ts'

/** A table that was read. The binary form needs the code to be understood, so both wait for it. */
export interface TableFile {
  /** Whether `bytes` are, by their length, what the table describes. */
  describes(bytes: Uint8Array): boolean
  /** Where the table says that the code is; throws `bad-input`. */
  base(): bigint
  /** The table, checked against the code that it describes; throws `bad-input` and `bad-table`. */
  load(code: Uint8Array): RelocationTable
}

/** Reads the table file `path`. */
export async function readTableFile(path: string, inputs: Inputs): Promise<TableFile> {
  const bytes = await inputs.bytes(path, 'the table')
  if (isBinaryTable(bytes)) {
    const length = describedLength(bytes)
    return {
      describes: (code) => code.length === length,
      base: () => binaryTableBase(bytes),
      load: (code) => RelocationTable.fromBinary(bytes, code),
    }
  }
  const table = RelocationTable.fromJSON(parseJson(bytes, path, 'the table'))
  return {
    describes: (code) => code.length === table.length,
    base: () => table.base,
    load: (code) => {
      table.check(code)
      return table
    },
  }
}

/** A table as the contents of `path`: binary where it ends in .tbl, else JSON. `code` is the blob that it describes. */
export const tableFileData = (path: string, table: RelocationTable, code: Uint8Array): Uint8Array | string =>
  path.endsWith('.tbl') ? table.toBinary(code) : `${JSON.stringify(table)}\n`
