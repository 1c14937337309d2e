/** Origins that the distribution ships as static libraries. */
import { at, type CaseRecipe, type Origin } from './recipes.ts'

const LIB = '/usr/lib/x86_64-linux-gnu'
const GCC = '/usr/lib/gcc/x86_64-linux-gnu/12'
const GHC = '/usr/lib/ghc'
const RUST = '$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/lib'

/** A library as the distribution ships it. */
export function packaged(
  id: string,
  origin: string,
  language: string,
  license: string,
  archive: string,
  cases: readonly CaseRecipe[],
  more: Partial<Origin> = {},
): Origin {
  const common = { compiler: 'as packaged by Debian 12', codeModel: 'small PIE/PIC as packaged' }
  return { id, origin, language, license, ...common, archives: [archive], cases, ...more }
}

const OPENSSL = [
  'OpenSSL libcrypto.a (libssl-dev)',
  'C + perlasm',
  'Apache-2.0',
  `${LIB}/libcrypto.a`,
] as const
const GLIBC = ['glibc libc.a (libc6-dev)', 'C + gas', 'LGPL-2.1+', `${LIB}/libc.a`] as const
const LIBM = 'glibc libm.a and libmvec.a (libc6-dev)'
const RUST_STD = ['Rust std rlibs 1.95.0', 'Rust', 'MIT OR Apache-2.0'] as const
const RUSTC = { compiler: 'rustc 1.95.0 -C opt-level=3 (as shipped)', maxCode: 600_000 }

const cAndAssembly: readonly Origin[] = [
  packaged('cryptoasm', ...OPENSSL, [at('text', 'pe1'), at('mixed', 'low')], {
    members:
      /lib-(aesni|sha|vpaes|bsaes|chacha|poly1305|ghash|ecp_nistz|x25519|rsaz|x86_64-mont|rc4|md5|keccak).*\.o/,
    maxCode: 600_000,
  }),
  packaged(
    'crypto',
    ...OPENSSL,
    [at('img', 'lib'), at('mixed', 'down'), at('modimg', 'low', { moving: /lib-(bn_|ec|aes|sha)/ })],
    {
      members:
        /lib-(aes|sha|bn_|ec_|ecp_|ecx|curve|chacha|gcm|cbc|e_aes|evp_|x86_64|rsaz|o_|obj|cmll|wp|bf_)/,
      maxCode: 400_000,
    },
  ),
  packaged('cryptofn', ...OPENSSL, [at('onefn', 'pack')], { members: /lib-(b|r|s|x)/, maxCode: 500_000 }),
  packaged(
    'x264',
    'x264 (libx264-dev)',
    'C + nasm',
    'GPL-2+',
    `${LIB}/libx264.a`,
    [at('text', 'lib'), at('img', 'pe'), at('mixed', 'tiny')],
    {
      members: /-8\.o$|cpu|dct|pixel|mc|deblock|quant/,
      maxCode: 500_000,
    },
  ),
  packaged(
    'vpx',
    'libvpx (libvpx-dev)',
    'C + nasm',
    'BSD-3-Clause',
    `${LIB}/libvpx.a`,
    [at('text', 'low'), at('textro', 'overlap')],
    {
      members: /asm|sse|avx|ssse3/,
      maxCode: 450_000,
    },
  ),
  packaged(
    'vp8',
    'libvpx (libvpx-dev)',
    'C + nasm',
    'BSD-3-Clause',
    `${LIB}/libvpx.a`,
    [at('img', 'pie'), at('modimg', 'libUp', { moving: /dec|entropy|token|tree/ })],
    {
      members: /^(?!.*(asm|sse|avx|ssse3)).*\.c\.o$/,
      maxCode: 300_000,
    },
  ),
  packaged(
    'avcodec',
    'FFmpeg libavcodec.a (libavcodec-dev)',
    'C + nasm',
    'GPL-2+',
    `${LIB}/libavcodec.a`,
    [at('text', 'pe1'), at('img', 'libUp'), at('mixed', 'down')],
    {
      members: /^(h264|hevc|vp9|aac|ac3|flac|dct|fft|idct|me_cmp|huff|simple)/,
      maxCode: 400_000,
    },
  ),
  packaged('sodium', 'libsodium (libsodium-dev)', 'C + gas', 'ISC', `${LIB}/libsodium.a`, [
    at('img', 'lib'),
    at('mixed', 'peNudge'),
    at('onefn', 'pack'),
  ]),
  packaged(
    'libc',
    ...GLIBC,
    [
      at('text', 'pie'),
      at('img', 'pe'),
      at('mixed', 'nudge'),
      at('modimg', 'low', { moving: /-(str|mem|wcs)/ }),
    ],
    {
      members:
        /^(str|mem|wcs|wmem|vfprintf|printf|malloc|qsort|reg|getopt|iconv|mktime|time|cacheinfo|setjmp|longjmp|ucontext|fnmatch|glob)/,
      maxCode: 500_000,
    },
  ),
  packaged('libcfn', ...GLIBC, [at('onefn', 'pack', { count: 200 })], { maxCode: 700_000 }),
  packaged(
    'libm',
    LIBM,
    'C + gas',
    'LGPL-2.1+',
    `${LIB}/libm-2.36.a`,
    [at('text', 'low'), at('img', 'libUp')],
    { maxCode: 350_000 },
  ),
  packaged('mvec', LIBM, 'gas', 'LGPL-2.1+', `${LIB}/libmvec.a`, [at('textro', 'pe1'), at('img', 'down')], {
    members: /_[sd]_(sin|exp|pow|atan|cbrt)/,
    maxCode: 200_000,
  }),
  packaged(
    'gcc',
    'libgcc.a (gcc-12)',
    'C',
    'GPL-3+ with GCC exception',
    `${GCC}/libgcc.a`,
    [at('img', 'low'), at('onefn', 'packLow')],
    {
      members: /^(?!bid|_[a-z]+_(dd|sd|td)).*\.o/,
    },
  ),
  packaged('sqlite', 'SQLite (libsqlite3-dev)', 'C', 'blessing', `${LIB}/libsqlite3.a`, [at('text', 'pe1')], {
    maxCode: 2_000_000,
  }),
  packaged(
    'zstd',
    'zstd (libzstd-dev)',
    'C + gas',
    'BSD-3-Clause',
    `${LIB}/libzstd.a`,
    [at('img', 'pe'), at('mixed', 'down')],
    {
      members: /^(?!zstd_v0|zstdmt|cover|fastcover|divsuf)/,
      maxCode: 300_000,
    },
  ),
  packaged('pcre2', 'PCRE2 (libpcre2-dev)', 'C', 'BSD-3-Clause', `${LIB}/libpcre2-8.a`, [
    at('text', 'tiny'),
    at('img', 'pie'),
  ]),
  packaged('opus', 'Opus (libopus-dev)', 'C', 'BSD-3-Clause', `${LIB}/libopus.a`, [
    at('rdimg', 'low'),
    at('textro', 'pe1'),
  ]),
  packaged(
    'glib',
    'GLib (libglib2.0-dev)',
    'C',
    'LGPL-2.1+',
    `${LIB}/libglib-2.0.a`,
    [at('img', 'low'), at('text', 'nudge')],
    { maxCode: 250_000 },
  ),
  packaged('objc', 'libobjc.a (gcc-12)', 'Objective-C', 'GPL-3+ with GCC exception', `${GCC}/libobjc.a`, [
    at('img', 'tiny'),
    at('mixed', 'pe'),
  ]),
]

const cpp: readonly Origin[] = [
  packaged('re2', 'RE2 (libre2-dev)', 'C++', 'BSD-3-Clause', `${LIB}/libre2.a`, [
    at('text', 'pie'),
    at('img', 'pe'),
    at('mixed', 'low'),
  ]),
  packaged('leveldb', 'LevelDB (libleveldb-dev)', 'C++', 'BSD-3-Clause', `${LIB}/libleveldb.a`, [
    at('img', 'lib'),
    at('modimg', 'tiny', { moving: /table|block|db_impl/ }),
    at('onefn', 'pack'),
  ]),
  packaged(
    'stdcpp',
    'libstdc++.a (gcc-12)',
    'C++',
    'GPL-3+ with GCC exception',
    `${GCC}/libstdc++.a`,
    [at('text', 'low'), at('img', 'pe1'), at('imgeh', 'libUp')],
    {
      maxCode: 350_000,
    },
  ),
  packaged(
    'boost',
    'Boost.Regex (libboost-regex-dev)',
    'C++',
    'BSL-1.0',
    `${LIB}/libboost_regex.a`,
    [at('img', 'low'), at('textro', 'pie')],
    { maxCode: 300_000 },
  ),
]

const rust: readonly Origin[] = [
  packaged(
    'ruststd',
    ...RUST_STD,
    `${RUST}/libstd-*.rlib`,
    [at('text', 'pe1'), at('img', 'lib'), at('onefn', 'pack')],
    RUSTC,
  ),
  packaged(
    'rustcore',
    ...RUST_STD,
    `${RUST}/lib{core,alloc,hashbrown,miniz_oxide,gimli}-*.rlib`,
    [at('img', 'pie'), at('mixed', 'low'), at('textro', 'nudge')],
    RUSTC,
  ),
]

const others: readonly Origin[] = [
  packaged(
    'lapack',
    'LAPACK and BLAS (liblapack-dev, libblas-dev)',
    'Fortran',
    'BSD-3-Clause',
    `${LIB}/{blas/libblas,lapack/liblapack}.a`,
    [at('text', 'low'), at('img', 'pe1'), at('mixed', 'libUp')],
    {
      maxCode: 250_000,
    },
  ),
  packaged(
    'gfortran',
    'libgfortran.a (gfortran-12)',
    'Fortran + C',
    'GPL-3+ with GCC exception',
    `${GCC}/libgfortran.a`,
    [at('img', 'down'), at('text', 'pie')],
    {
      members: /^(?!.*_(i|r|c|l)(1|2|4|8|10|16)\.o)/,
      maxCode: 250_000,
    },
  ),
  packaged(
    'gnat',
    'libgnat.a (gnat-12)',
    'Ada',
    'GPL-3+ with GCC exception',
    `${GCC}/adalib/libgnat.a`,
    [at('img', 'low'), at('text', 'pe1'), at('mixed', 'tiny'), at('onefn', 'packLow')],
    {
      members: /^(a-|g-|s-)/,
      maxCode: 300_000,
    },
  ),
  packaged(
    'ldcrt',
    'D runtime libdruntime-ldc.a (libphobos2-ldc-shared-dev)',
    'D',
    'BSL-1.0',
    `${LIB}/libdruntime-ldc.a`,
    [at('img', 'lib'), at('text', 'low'), at('textro', 'overlap')],
    {
      compiler: 'ldc2 1.30.0 as packaged',
      maxCode: 250_000,
    },
  ),
  packaged(
    'gphobos',
    'Phobos libgphobos.a (libgphobos-12-dev)',
    'D',
    'BSL-1.0',
    `${GCC}/libgphobos.a`,
    [at('img', 'pe'), at('mixed', 'low')],
    {
      compiler: 'gdc 12.2.0 as packaged',
      maxCode: 250_000,
    },
  ),
  packaged(
    'gccgo',
    'Go library libgo.a (gccgo-12)',
    'Go (gccgo)',
    'BSD-3-Clause',
    `${GCC}/libgo.a`,
    [at('img', 'low'), at('text', 'lib'), at('onefn', 'pack')],
    {
      compiler: 'gccgo 12.2.0 as packaged',
      members: /^(fmt|strconv|bufio|bytes|json|regexp|sort|sha256|flate|parser|scanner)\.o/,
      maxCode: 250_000,
    },
  ),
  packaged(
    'haskell',
    'GHC 9.0.2 libraries',
    'Haskell',
    'BSD-3-Clause',
    `${GHC}/{containers-0.6.4.1,bytestring-0.10.12.1}/libHS*.a`,
    [at('text', 'low'), at('img', 'low'), at('onefn', 'packLow')],
    {
      compiler: 'ghc 9.0.2 native code generator, as packaged',
      codeModel: 'small, not PIC',
      members: /^(?!Internal\.o)/,
      maxCode: 350_000,
      notes:
        'tables-next-to-code: an info table (layout words, 32-bit differences) lies before each entry, inside .text',
    },
  ),
  packaged(
    'haskellbase',
    'GHC 9.0.2 libraries',
    'Haskell',
    'BSD-3-Clause',
    `${GHC}/{mtl-*,parsec-*,text-*}/libHS*.a`,
    [at('img', 'tiny'), at('mixed', 'down')],
    {
      compiler: 'ghc 9.0.2 native code generator, as packaged',
      codeModel: 'small, not PIC',
      maxCode: 300_000,
      notes:
        'tables-next-to-code: an info table (layout words, 32-bit differences) lies before each entry, inside .text',
    },
  ),
]

export const packagedOrigins: readonly Origin[] = [...cAndAssembly, ...cpp, ...rust, ...others]
