/** Sets as the bits of a word. */

/** The number of the lowest bit that is set; -1 of 0. */
export const lowestBit = (word: number): number => 31 - Math.clz32(word & -word)
