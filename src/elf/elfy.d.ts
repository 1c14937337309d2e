/** The part of elfy 1.0.0 that is used. It has no types of its own. */
declare module 'elfy' {
  interface ElfySection {
    readonly name: string
    readonly addr: number
    readonly off: number
    readonly size: number
    readonly link: number
    readonly info: number
  }
  interface ElfyProgram {
    readonly offset: number
    readonly vaddr: number
    readonly paddr: number
    readonly filesz: number
    readonly memsz: number
  }
  interface ElfyFile {
    readonly entry: number
    readonly phoff: number
    readonly shoff: number
    readonly phnum: number
    readonly shnum: number
    readonly shstrndx: number
    readonly body: { readonly programs: readonly ElfyProgram[]; readonly sections: readonly ElfySection[] }
  }
  const elfy: { parse(buffer: Uint8Array): ElfyFile }
  export default elfy
}
