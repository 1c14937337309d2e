/** Where output goes: links, names of one file, files that are protected; and inputs that are of another format. */
import { chmodSync, lstatSync, symlinkSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FROM, files, get, MOVED, path, put, relocate, TO, useDirectory } from '../support/command.ts'

useDirectory()

describe('output', () => {
  it('goes to what a link leads to, before that is there', async () => {
    symlinkSync('b.bin', path('link'))
    expect(await relocate(...FROM, ...TO, '-o', path('link'))).toMatchObject({ code: 0 })
    expect(lstatSync(path('link')).isSymbolicLink()).toBe(true)
    expect(get('b.bin')).toEqual(MOVED)
    expect(files()).toEqual(['a.bin', 'b.bin', 'link'])
  })

  it('is refused where links lead in a circle', async () => {
    symlinkSync('two', path('one'))
    symlinkSync('one', path('two'))
    const { code, err } = await relocate(...FROM, ...TO, '-o', path('one'))
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('too many symbolic links') })
  })

  it('is not asked for twice under two names', async () => {
    symlinkSync('b.bin', path('link'))
    const { code, err } = await relocate(...FROM, ...TO, '-o', path('b.bin'), '--write-table', path('link'))
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('link is asked for two outputs') })
    expect(files()).toEqual(['a.bin', 'link'])
  })

  it.skipIf(process.getuid?.() === 0)(
    'does not replace a file that may not be written (root may)',
    async () => {
      chmodSync(put('b.bin', 'kept'), 0o444)
      const { code, err } = await relocate(...FROM, ...TO, '-o', path('b.bin'))
      expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('b.bin: permission denied') })
      expect(get('b.bin').toString()).toBe('kept')
    },
  )
})

describe('a file of another format', () => {
  const pe = Buffer.alloc(256)
  pe.write('MZ')
  pe.writeUInt32LE(0x80, 60)
  pe.write('PE', 0x80)
  it.each([
    ['PE', pe],
    ['Mach-O', Buffer.from('cffaedfe07000001030000000000', 'hex')],
    ['library of object files', Buffer.from('!<arch>\n/               0')],
  ])('%s is no blob, unless it is called one', async (name, data) => {
    const input = put('a.bin', data)
    const { code, err } = await relocate(...FROM, ...TO, '-o', path('b.bin'))
    expect(code).toBe(2)
    expect(err).toMatch(new RegExp(`^x64-reloc: ${input} is a .*${name}.* --raw\\.\n$`))
    expect(files()).toEqual(['a.bin'])
    expect((await relocate(...FROM, ...FROM.with(0, '--to'), '-o', path('b.bin'), '--raw')).code).toBe(0)
    expect(get('b.bin')).toEqual(data)
  })

  it('is a blob where its first two bytes alone are of one', async () => {
    // pop r10; ret
    put('a.bin', Buffer.from('4d5ac3', 'hex'))
    expect(await relocate(...FROM, ...TO, '-o', path('b.bin'))).toMatchObject({ code: 0 })
  })
})
