/** More static libraries of the distribution: built once, to see how the analysis does on what it never met. */
import { packaged } from './packaged.ts'
import { at, type Origin } from './recipes.ts'

const LIB = '/usr/lib/x86_64-linux-gnu'
const lib = (name: string): string => `${LIB}/lib${name}.a`

export const furtherOrigins: readonly Origin[] = [
  packaged(
    'x265',
    'x265 (libx265-dev)',
    'C++ + nasm',
    'GPL-2+',
    lib('x265'),
    [at('text', 'lib'), at('mixed', 'low')],
    {
      members: /asm|-a\.|mc|pixel|dct|ipfilter|sad|loop|quant|blockcopy/,
      maxCode: 600_000,
    },
  ),
  packaged(
    'aom',
    'AOM AV1 (libaom-dev)',
    'C + nasm',
    'BSD-2-Clause',
    lib('aom'),
    [at('text', 'pe1'), at('img', 'low')],
    {
      maxCode: 500_000,
    },
  ),
  packaged('aomasm', 'AOM AV1 (libaom-dev)', 'C + nasm', 'BSD-2-Clause', lib('aom'), [at('mixed', 'tiny')], {
    members: /asm|sse|avx/,
    maxCode: 500_000,
  }),
  packaged(
    'svt',
    'SVT-AV1 (libsvtav1enc-dev)',
    'C + nasm',
    'BSD-2-Clause',
    lib('SvtAv1Enc'),
    [at('text', 'libUp'), at('img', 'down')],
    {
      members: /asm|avx|sse/i,
      maxCode: 500_000,
    },
  ),
  packaged(
    'botan',
    'Botan (libbotan-2-dev)',
    'C++',
    'BSD-2-Clause',
    lib('botan-2'),
    [at('text', 'pie'), at('img', 'low'), at('mixed', 'low')],
    {
      maxCode: 500_000,
    },
  ),
  packaged(
    'mbed',
    'Mbed TLS (libmbedtls-dev)',
    'C',
    'Apache-2.0',
    lib('mbedcrypto'),
    [at('text', 'low'), at('img', 'tiny'), at('textro', 'low')],
    {
      maxCode: 500_000,
    },
  ),
  packaged(
    'zstd',
    'Zstandard (libzstd-dev)',
    'C',
    'BSD-3-Clause',
    lib('zstd'),
    [at('text', 'overlap'), at('img', 'low'), at('mixed', 'peNudge')],
    {
      maxCode: 600_000,
    },
  ),
  packaged(
    'brotli',
    'Brotli (libbrotli-dev)',
    'C',
    'MIT',
    lib('brotlienc'),
    [at('img', 'low'), at('textro', 'tiny')],
    { maxCode: 600_000 },
  ),
  packaged('fmt', 'fmt (libfmt-dev)', 'C++', 'MIT', lib('fmt'), [at('img', 'low'), at('mixed', 'lib')]),
  packaged('absl', 'Abseil (libabsl-dev)', 'C++', 'Apache-2.0', lib('absl_strings'), [
    at('img', 'low'),
    at('mixed', 'tiny'),
  ]),
  packaged(
    'proto',
    'Protocol Buffers (libprotobuf-dev)',
    'C++',
    'BSD-3-Clause',
    lib('protobuf-lite'),
    [at('img', 'low'), at('mixed', 'pie')],
    {
      maxCode: 500_000,
    },
  ),
  packaged(
    'isal',
    'ISA-L (libisal-dev)',
    'C + nasm',
    'BSD-3-Clause',
    lib('isal'),
    [at('text', 'lib'), at('mixed', 'low'), at('img', 'tiny')],
    {
      maxCode: 600_000,
    },
  ),
  packaged('secp', 'secp256k1 (libsecp256k1-dev)', 'C', 'MIT', lib('secp256k1'), [
    at('img', 'low'),
    at('mixed', 'low'),
  ]),
  packaged(
    'webp',
    'WebP (libwebp-dev)',
    'C',
    'BSD-3-Clause',
    lib('webp'),
    [at('img', 'low'), at('mixed', 'tiny')],
    { maxCode: 500_000 },
  ),
  packaged(
    'tomcrypt',
    'LibTomCrypt (libtomcrypt-dev)',
    'C',
    'Unlicense',
    lib('tomcrypt'),
    [at('img', 'low'), at('mixed', 'tiny')],
    {
      maxCode: 500_000,
    },
  ),
  packaged(
    'rocks',
    'RocksDB (librocksdb-dev)',
    'C++',
    'Apache-2.0',
    lib('rocksdb'),
    [at('img', 'low'), at('mixed', 'lib')],
    {
      maxCode: 700_000,
    },
  ),
  packaged(
    'openh264',
    'OpenH264 (libopenh264-dev)',
    'C++ + nasm',
    'BSD-2-Clause',
    lib('openh264'),
    [at('text', 'lib'), at('mixed', 'low'), at('img', 'low')],
    {
      maxCode: 600_000,
    },
  ),
]
