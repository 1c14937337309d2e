/** Exit codes. */

export const DONE = 0
/** Refused or not verified; nothing was written. */
export const REFUSED = 1
/** Wrong use or unreadable input. */
export const WRONG_USE = 2
