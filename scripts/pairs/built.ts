/** Origins that are compiled here, under flags that no package uses: own programs and Debian source packages. */
import { at, type CaseRecipe, type Origin } from './recipes.ts'

const OWN = { license: 'MIT' } as const
/** rustc leaves unwind tables and debug sections out of the way, one object per crate. */
const RUSTC = 'rustc --edition 2021 --crate-type=lib --emit=obj -C codegen-units=1'

function rust(id: string, flags: string, codeModel: string, cases: readonly CaseRecipe[]): Origin {
  return {
    id: `rs-${id}`,
    origin: 'own Rust program (shapes.rs)',
    language: 'Rust',
    ...OWN,
    compiler: `rustc 1.95.0 ${flags}`,
    codeModel,
    build: `${RUSTC} ${flags} "$SRC/shapes.rs" -o shapes.o`,
    cases,
  }
}

function crate(
  id: string,
  name: string,
  license: string,
  flags: string,
  codeModel: string,
  cases: readonly CaseRecipe[],
): Origin {
  return {
    id,
    origin: `Rust crate ${name} (librust-${name.replaceAll('_', '-')}-dev)`,
    language: 'Rust',
    license,
    compiler: `rustc 1.95.0 --release ${flags}`,
    codeModel,
    build: `crate ${name} '${flags}'; cp target/release/deps/lib*.rlib .; rm -f liball*.rlib`,
    archives: ['*.rlib'],
    maxCode: 450_000,
    cases,
  }
}

function go(
  id: string,
  program: string,
  prefix: string,
  flags: string,
  codeModel: string,
  cases: readonly CaseRecipe[],
): Origin {
  return {
    id: `go-${id}`,
    origin: 'Go 1.19 runtime and standard library',
    language: 'Go',
    license: 'BSD-3-Clause',
    compiler: `gc go1.19.8 ${prefix} ${flags}`.replaceAll('  ', ' ').trim(),
    codeModel,
    build: `mkdir link; cp "$SRC/${program}" main.go
${prefix} GOCACHE=$PWD/cache GO111MODULE=off go build -o main ${flags} -ldflags="-linkmode=external -tmpdir=$PWD/link" main.go; cp link/go.o .; rm -rf cache`,
    maxCode: 3_000_000,
    cases,
  }
}

function c(
  id: string,
  source: string,
  origin: string,
  compiler: string,
  flags: string,
  codeModel: string,
  cases: readonly CaseRecipe[],
): Origin {
  const files = source === 'mujs' ? 'js*.c' : 'cJSON*.c'
  return {
    id,
    origin,
    language: 'C',
    license: source === 'mujs' ? 'ISC' : 'MIT',
    compiler: `${compiler === 'gcc' ? 'gcc 12.2.0' : 'clang 14.0.6'} ${flags}`,
    codeModel,
    build: `fetch ${source}; for f in "$DIR"/${files}; do case $f in *jsrepr.c|*json.c) [ ${source} = mujs ] && continue;; esac; ${compiler} ${flags} -w -c "$f"; done
case '${flags}' in *-flto*) gcc ${flags} -r -flinker-output=nolto-rel *.o -o whole.out; rm -f *.o; mv whole.out whole.o;; esac`,
    cases,
  }
}

function cpp(
  id: string,
  source: string,
  origin: string,
  license: string,
  compiler: string,
  flags: string,
  codeModel: string,
  cases: readonly CaseRecipe[],
): Origin {
  const version = compiler === 'g++' ? 'g++ 12.2.0' : 'clang++ 14.0.6'
  const fetched = source === '' ? '' : `fetch ${source}; `
  const file = {
    '': '"$SRC/variant.cpp"',
    pugixml: '"$DIR/src/pugixml.cpp"',
    tinyxml2: '"$DIR/tinyxml2.cpp"',
  }[source]
  return {
    id,
    origin,
    language: 'C++',
    license,
    compiler: `${version} ${flags}`,
    codeModel,
    build: `${fetched}${compiler} -std=c++17 ${flags} -w -c ${file}`,
    cases,
  }
}

const NO_PIC = '-fno-pic -fno-pie'
const MUJS = 'MuJS (Debian source mujs)'
const CJSON = 'cJSON (Debian source cjson)'
const PUGI = 'pugixml (Debian source pugixml)'
const TINY = 'TinyXML-2 (Debian source tinyxml2)'
const VARIANT = 'own C++ program (variant.cpp)'

const cOrigins: readonly Origin[] = [
  c('mujs-gcc-O0', 'mujs', MUJS, 'gcc', `-O0 ${NO_PIC}`, 'small', [at('img', 'low'), at('mixed', 'tiny')]),
  c('mujs-gcc-O2', 'mujs', MUJS, 'gcc', `-O2 ${NO_PIC}`, 'small', [
    at('img', 'lowUp'),
    at('textro', 'nudge'),
    at('modimg', 'down', { moving: /-js(run|value|compile|regexp|object)/ }),
  ]),
  c(
    'mujs-gcc-O3-avx512',
    'mujs',
    MUJS,
    'gcc',
    `-O3 -march=skylake-avx512 -mprefer-vector-width=512 ${NO_PIC}`,
    'small',
    [at('mixed', 'low')],
  ),
  c(
    'mujs-gcc-Os-cet',
    'mujs',
    MUJS,
    'gcc',
    '-Os -fPIE -fcf-protection=full -falign-functions=64',
    'small PIE',
    [at('img', 'pie'), at('text', 'libUp')],
  ),
  c('mujs-gcc-large', 'mujs', MUJS, 'gcc', `-O2 -mcmodel=large ${NO_PIC}`, 'large', [
    at('img', 'far'),
    at('text', 'farUp'),
    at('mixed', 'farUp'),
  ]),
  c('mujs-gcc-largepic', 'mujs', MUJS, 'gcc', '-O2 -fPIC -mcmodel=large', 'large PIC', [
    at('img', 'far'),
    at('modimg', 'farUp', { moving: /-js(run|value|compile|parse)/ }),
  ]),
  c('mujs-gcc-kernel', 'mujs', MUJS, 'gcc', `-O2 -mcmodel=kernel -mno-red-zone ${NO_PIC}`, 'kernel', [
    at('img', 'kernel'),
    at('textro', 'module'),
  ]),
  c(
    'mujs-gcc-medium',
    'mujs',
    MUJS,
    'gcc',
    `-O2 -mcmodel=medium -mlarge-data-threshold=64 ${NO_PIC}`,
    'medium',
    [at('imgall', 'low')],
  ),
  c('mujs-gcc-lto', 'mujs', MUJS, 'gcc', `-O2 -flto ${NO_PIC}`, 'small', [at('img', 'low')]),
  c('mujs-clang-O3', 'mujs', MUJS, 'clang', `-O3 ${NO_PIC}`, 'small', [
    at('img', 'low'),
    at('textro', 'tiny'),
  ]),
  c('mujs-clang-Oz', 'mujs', MUJS, 'clang', '-Oz -fPIC', 'small PIC', [
    at('img', 'peNudge'),
    at('mixed', 'lib'),
  ]),
  c('mujs-clang-large', 'mujs', MUJS, 'clang', `-O2 -mcmodel=large ${NO_PIC}`, 'large', [
    at('img', 'farUp'),
    at('text', 'far'),
  ]),
  c('mujs-clang-nojt', 'mujs', MUJS, 'clang', `-O2 -fno-jump-tables ${NO_PIC}`, 'small', [at('img', 'down')]),
  c('mujs-fn', 'mujs', MUJS, 'gcc', `-O2 -ffunction-sections ${NO_PIC}`, 'small', [at('onefn', 'packLow')]),
  c('cjson-gcc', 'cjson', CJSON, 'gcc', `-O2 ${NO_PIC}`, 'small', [at('img', 'low'), at('text', 'overlap')]),
  c('cjson-clang', 'cjson', CJSON, 'clang', `-Oz ${NO_PIC}`, 'small', [at('rdimg', 'tiny')]),
]

const cppOrigins: readonly Origin[] = [
  cpp('pugixml-clang-O3', 'pugixml', PUGI, 'MIT', 'clang++', `-O3 ${NO_PIC}`, 'small', [
    at('img', 'low'),
    at('textro', 'tiny'),
  ]),
  cpp('pugixml-gcc-large', 'pugixml', PUGI, 'MIT', 'g++', `-O2 -mcmodel=large ${NO_PIC}`, 'large', [
    at('img', 'far'),
  ]),
  cpp('pugixml-gcc-Os', 'pugixml', PUGI, 'MIT', 'g++', '-Os -fPIC -ffunction-sections', 'small PIC', [
    at('imgeh', 'pe'),
    at('onefn', 'pack'),
  ]),
  cpp('tinyxml2-gcc', 'tinyxml2', TINY, 'Zlib', 'g++', `-O2 ${NO_PIC}`, 'small', [
    at('img', 'lowUp'),
    at('text', 'tiny'),
  ]),
  cpp('variant-gcc', '', VARIANT, 'MIT', 'g++', `-O2 ${NO_PIC}`, 'small', [
    at('imgeh', 'low'),
    at('text', 'down'),
  ]),
  cpp('variant-clang', '', VARIANT, 'MIT', 'clang++', '-O1 -fPIE', 'small PIE', [
    at('img', 'pie'),
    at('mixed', 'peDown'),
  ]),
]

const rustOrigins: readonly Origin[] = [
  rust('O0', '-C opt-level=0 -C relocation-model=static', 'small', [at('img', 'low'), at('text', 'tiny')]),
  rust('O2-abort', '-C opt-level=2 -C panic=abort -C relocation-model=pic', 'small PIC', [
    at('img', 'pe'),
    at('textro', 'libUp'),
  ]),
  rust('Os', '-C opt-level=s -C relocation-model=static', 'small', [
    at('imgeh', 'lowUp'),
    at('mixed', 'nudge'),
  ]),
  rust('O3-large', '-C opt-level=3 -C relocation-model=static -C code-model=large', 'large', [
    at('img', 'far'),
    at('text', 'farUp'),
  ]),
  rust('O3-kernel', '-C opt-level=3 -C relocation-model=static -C code-model=kernel', 'kernel', [
    at('img', 'kernel'),
  ]),
  crate('regex', 'regex', 'MIT OR Apache-2.0', '-C relocation-model=static', 'small', [
    at('img', 'low'),
    at('text', 'lowUp'),
  ]),
  crate(
    'regexs',
    'regex',
    'MIT OR Apache-2.0',
    '-C opt-level=s -C panic=abort -C relocation-model=pic',
    'small PIC',
    [at('img', 'lib'), at('mixed', 'pe1')],
  ),
  crate(
    'serdejson',
    'serde_json',
    'MIT OR Apache-2.0',
    '-C opt-level=1 -C relocation-model=static',
    'small',
    [at('img', 'tiny')],
  ),
  crate('sha2', 'sha2', 'MIT OR Apache-2.0', '-C target-cpu=skylake-avx512', 'small PIC', [
    at('img', 'libUp'),
  ]),
]

const goOrigins: readonly Origin[] = [
  go('tiny', 'tiny.go', '', '', 'small', [at('text', 'low'), at('img', 'lowUp')]),
  go('tiny-pie', 'tiny.go', '', '-buildmode=pie', 'small PIE', [at('text', 'pie'), at('textro', 'pe')]),
  go('noopt', 'machine.go', '', '-gcflags=all="-N -l"', 'small', [at('text', 'tiny')]),
  go('fmt-v3', 'machine.go', 'GOAMD64=v3', '', 'small', [at('img', 'low')]),
]

function nasm(id: string, define: string, codeModel: string, cases: readonly CaseRecipe[]): Origin {
  return {
    id: `nasm-${id}`,
    origin: 'own assembly (kernels.asm)',
    language: 'nasm',
    ...OWN,
    compiler: `nasm 2.16 ${define}`.trim(),
    codeModel,
    build: `nasm -f elf64 ${define} "$SRC/kernels.asm" -o kernels.o`,
    cases,
  }
}

const DAV1D_CONFIG = `-DARCH_X86_64=1 -DARCH_X86_32=0 -DPIC=1 -DFORCE_VEX_ENCODING=0 -DSTACK_ALIGNMENT=16 -Dprivate_prefix=dav1d`

const otherOrigins: readonly Origin[] = [
  nasm('pic', '', 'small PIC', [at('img', 'pe'), at('text', 'libUp'), at('img', 'low', { suffix: '-low' })]),
  nasm('abs', '-DABSOLUTE', 'small', [
    at('img', 'low'),
    at('text', 'tiny'),
    at('img', 'nudge', { suffix: '-nudge' }),
  ]),
  nasm('wide', '-DWIDE', 'small, 64-bit immediates', [
    at('img', 'libUp'),
    at('img', 'overlap', { suffix: '-overlap' }),
  ]),
  {
    id: 'dav1d',
    origin: 'dav1d assembly (Debian source dav1d)',
    language: 'nasm',
    license: 'BSD-2-Clause',
    compiler: 'nasm 2.16',
    codeModel: 'small PIC',
    build: `fetch dav1d; : > config.asm; for f in "$DIR"/src/x86/{cdef,ipred,itx,mc,loopfilter,looprestoration}*.asm "$DIR"/src/x86/{msac,refmvs,cpuid}.asm; do
nasm -f elf64 -I "$PWD/" -I "$DIR/src/" -I "$DIR/src/x86/" ${DAV1D_CONFIG} "$f" -o "$(basename "$f" .asm).o"; done`,
    maxCode: 500_000,
    cases: [at('text', 'pe1'), at('mixed', 'low'), at('img', 'lib')],
  },
  {
    id: 'fortran',
    origin: 'own Fortran program (mesh.f90)',
    language: 'Fortran',
    ...OWN,
    compiler: 'gfortran 12.2.0 -O2 -fno-pic -fno-pie',
    codeModel: 'small',
    build: `gfortran -O2 ${NO_PIC} -c "$SRC/mesh.f90"`,
    cases: [at('img', 'low'), at('mixed', 'tiny')],
  },
  {
    id: 'fortran-O3',
    origin: 'own Fortran program (mesh.f90)',
    language: 'Fortran',
    ...OWN,
    compiler: 'gfortran 12.2.0 -O3 -march=haswell -fPIC',
    codeModel: 'small PIC',
    build: 'gfortran -O3 -march=haswell -fPIC -c "$SRC/mesh.f90"',
    cases: [at('img', 'libUp')],
  },
  {
    id: 'ada',
    origin: 'own Ada program (bank.adb)',
    language: 'Ada',
    ...OWN,
    compiler: 'gnat 12.2.0 -O2 -fno-pic -fno-pie',
    codeModel: 'small',
    build: `gnatmake -q -c -O2 -gnat2012 ${NO_PIC} "$SRC/bank.adb"`,
    cases: [at('img', 'low'), at('text', 'lowUp')],
  },
  {
    id: 'ada-O0',
    origin: 'own Ada program (bank.adb)',
    language: 'Ada',
    ...OWN,
    compiler: 'gnat 12.2.0 -O0 -fPIE',
    codeModel: 'small PIE',
    build: 'gnatmake -q -c -O0 -fPIE -gnat2012 "$SRC/bank.adb"',
    cases: [at('img', 'pie')],
  },
  {
    id: 'd-ldc',
    origin: 'own D program (tree.d)',
    language: 'D',
    ...OWN,
    compiler: 'ldc2 1.30.0 -O2 --relocation-model=static',
    codeModel: 'small',
    build: 'ldc2 -O2 --relocation-model=static -c "$SRC/tree.d" -of=tree.o',
    cases: [at('img', 'low'), at('text', 'overlap')],
  },
  {
    id: 'd-gdc',
    origin: 'own D program (tree.d)',
    language: 'D',
    ...OWN,
    compiler: 'gdc 12.2.0 -O2 -fPIC',
    codeModel: 'small PIC',
    build: 'gdc -O2 -fPIC -c "$SRC/tree.d" -o tree.o',
    cases: [at('img', 'pe'), at('mixed', 'libUp')],
  },
  {
    id: 'nim',
    origin: 'own Nim program (parse.nim) and the Nim library',
    language: 'Nim',
    ...OWN,
    compiler: 'nim 1.6.10 -d:release, gcc 12.2.0',
    codeModel: 'small',
    build: `nim c -d:release --noLinking --nimcache:cache --passC:"${NO_PIC}" "$SRC/parse.nim"; cp cache/*.o .`,
    cases: [at('img', 'low'), at('mixed', 'down')],
  },
]

export const builtOrigins: readonly Origin[] = [
  ...cOrigins,
  ...cppOrigins,
  ...rustOrigins,
  ...goOrigins,
  ...otherOrigins,
]
