/**
 * A program in LLVM's own language, for whatever version reads it: functions, calls, a jump table, strings,
 * numbers, variables, code pointers.
 */

/** Every function takes one number and gives one. */
export const FUNCTIONS = [
  'classify',
  'factorial',
  'is_even',
  'polynomial',
  'letter',
  'dispatch',
  'bump',
  'hooked',
  'magnitude',
  'visiting',
] as const

/** With typed pointers, which LLVM 14 needs and LLVM 17 refuses. */
const TYPED = `
@counter = global i64 1000
@greeting = private unnamed_addr constant [13 x i8] c"movable code\\00"
@operations = internal unnamed_addr constant [4 x i64 (i64)*] [i64 (i64)* @triple, i64 (i64)* @square, i64 (i64)* @factorial, i64 (i64)* @is_even]
@hooks = global [2 x i64 (i64)*] [i64 (i64)* @square, i64 (i64)* @triple]

declare i64 @llabs(i64)
declare i64 @visit(i64)

define internal i64 @triple(i64 %n) noinline {
  %r = mul i64 %n, 3
  ret i64 %r
}

define internal i64 @square(i64 %n) noinline {
  %r = mul i64 %n, %n
  ret i64 %r
}

define i64 @classify(i64 %n) noinline {
  %k = and i64 %n, 15
  switch i64 %k, label %other [
    i64 0, label %c0
    i64 1, label %c1
    i64 2, label %c2
    i64 3, label %c3
    i64 4, label %c4
    i64 5, label %c5
    i64 6, label %c6
    i64 7, label %c7
  ]
c0:
  %r0 = call i64 @triple(i64 %n)
  ret i64 %r0
c1:
  %r1 = call i64 @square(i64 %n)
  ret i64 %r1
c2:
  %r2 = xor i64 %n, 12345
  ret i64 %r2
c3:
  %r3 = call i64 @factorial(i64 5)
  ret i64 %r3
c4:
  %r4 = call i64 @letter(i64 %n)
  ret i64 %r4
c5:
  %r5 = sub i64 7, %n
  ret i64 %r5
c6:
  %r6 = call i64 @polynomial(i64 %n)
  ret i64 %r6
c7:
  %r7 = shl i64 %n, 7
  ret i64 %r7
other:
  ret i64 -1
}

define i64 @factorial(i64 %n) noinline "disable-tail-calls"="true" {
  %small = icmp slt i64 %n, 2
  br i1 %small, label %base, label %step
base:
  ret i64 1
step:
  %less = sub i64 %n, 1
  %rest = call i64 @factorial(i64 %less)
  %r = mul i64 %rest, %n
  ret i64 %r
}

define i64 @is_even(i64 %n) noinline "disable-tail-calls"="true" {
  %zero = icmp eq i64 %n, 0
  br i1 %zero, label %yes, label %more
yes:
  ret i64 1
more:
  %less = sub i64 %n, 1
  %r = call i64 @is_odd(i64 %less)
  ret i64 %r
}

define internal i64 @is_odd(i64 %n) noinline "disable-tail-calls"="true" {
  %zero = icmp eq i64 %n, 0
  br i1 %zero, label %no, label %more
no:
  ret i64 0
more:
  %less = sub i64 %n, 1
  %r = call i64 @is_even(i64 %less)
  ret i64 %r
}

define i64 @polynomial(i64 %n) noinline {
  %x = sitofp i64 %n to double
  %a = fmul double %x, 1.5
  %b = fadd double %a, 0.25
  %c = fmul double %b, %x
  %d = fadd double %c, 31.125
  %r = fptosi double %d to i64
  ret i64 %r
}

define i64 @letter(i64 %n) noinline {
  %i = urem i64 %n, 12
  %p = getelementptr [13 x i8], [13 x i8]* @greeting, i64 0, i64 %i
  %c = load i8, i8* %p
  %r = zext i8 %c to i64
  ret i64 %r
}

define i64 @dispatch(i64 %n) noinline {
  %i = and i64 %n, 3
  %p = getelementptr [4 x i64 (i64)*], [4 x i64 (i64)*]* @operations, i64 0, i64 %i
  %f = load i64 (i64)*, i64 (i64)** %p
  %r = call i64 %f(i64 %n)
  ret i64 %r
}

define i64 @bump(i64 %n) noinline {
  %old = load i64, i64* @counter
  %new = add i64 %old, %n
  store i64 %new, i64* @counter
  ret i64 %new
}

define i64 @hooked(i64 %n) noinline {
  %i = and i64 %n, 1
  %p = getelementptr [2 x i64 (i64)*], [2 x i64 (i64)*]* @hooks, i64 0, i64 %i
  %f = load i64 (i64)*, i64 (i64)** %p
  %r = call i64 %f(i64 %n)
  ret i64 %r
}

define i64 @magnitude(i64 %n) noinline {
  %m = sub i64 5, %n
  %a = call i64 @llabs(i64 %m)
  %r = add i64 %a, %n
  ret i64 %r
}

define i64 @visiting(i64 %n) noinline "disable-tail-calls"="true" {
  %small = icmp slt i64 %n, 1
  br i1 %small, label %base, label %step
base:
  %v = call i64 @visit(i64 %n)
  ret i64 %v
step:
  %less = sub i64 %n, 1
  %rest = call i64 @visiting(i64 %less)
  %r = add i64 %rest, %n
  ret i64 %r
}
`

/** The program as `version` of LLVM wants it. */
export const program = (version: number): string =>
  version < 15
    ? TYPED
    : TYPED.replace(/(i64 \(i64\)|\[\d+ x [^\][]*\]|i\d+|ptr)\*+/g, 'ptr').replace(
        /(\[\d+ x ptr\])\*/g,
        'ptr',
      )
