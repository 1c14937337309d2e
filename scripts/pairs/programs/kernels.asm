; Hand-written style: tables in .text between functions, absolute and relative jump tables, address arithmetic,
; 64-bit immediates, constants that look like addresses, string pools behind the code.
bits 64
default rel
global scan, hash, interp, copy, classify
extern outside, counter
section .text align=64

interp:                                 ; rdi = program, rsi = stack
        push rbx
        mov rbx, rdi
.next:  movzx eax, byte [rbx]
        inc rbx
        cmp eax, 9
        ja .bad
        lea rcx, [.table]
        movsxd rax, dword [rcx+rax*4]
        add rax, rcx
        jmp rax
align 4
.table: dd .halt-.table, .push-.table, .add-.table, .sub-.table, .mul-.table
        dd .dup-.table, .swap-.table, .jump-.table, .call-.table, .bad-.table
.push:  movsx rax, byte [rbx]
        inc rbx
        add rsi, 8
        mov [rsi], rax
        jmp .next
.add:   mov rax, [rsi]
        sub rsi, 8
        add [rsi], rax
        jmp .next
.sub:   mov rax, [rsi]
        sub rsi, 8
        sub [rsi], rax
        jmp .next
.mul:   mov rax, [rsi]
        sub rsi, 8
        imul rax, [rsi]
        mov [rsi], rax
        jmp .next
.dup:   mov rax, [rsi]
        add rsi, 8
        mov [rsi], rax
        jmp .next
.swap:  mov rax, [rsi]
        xchg rax, [rsi-8]
        mov [rsi], rax
        jmp .next
.jump:  movsx rax, byte [rbx]
        lea rbx, [rbx+rax+1]
        jmp .next
.call:  push rsi
        call outside
        pop rsi
        jmp .next
.bad:   lea rax, [bad_text]
        pop rbx
        ret
.halt:  mov rax, [rsi]
        pop rbx
        ret
bad_text: db 'bad instruction', 0
align 32
shuffle: db 0,1,2,3,0,1,2,3,4,5,6,7,4,5,6,7, 15,14,13,12,11,10,9,8,7,6,5,4,3,2,1,0
round_constants: dq 0x0000000000000001, 0x0000000000008082, 0x800000000000808a, 0x8000000080008000
        dd 0x400000, 0x401000, 0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x410040, 0x7ff00010

hash:                                   ; rdi = data, rsi = length
        mov rax, 0xcbf29ce484222325
        mov r8, 0x100000001b3
        xor edx, edx
        test rsi, rsi
        jz .done
.loop:  movzx ecx, byte [rdi+rdx]
        xor rax, rcx
        imul rax, r8
        inc rdx
        cmp rdx, rsi
        jb .loop
.done:  lea rcx, [round_constants]
        and edx, 3
        xor rax, [rcx+rdx*8]
        vmovdqu ymm0, [shuffle]
        vpshufb ymm1, ymm0, [rel shuffle]
        vzeroupper
        inc qword [counter]
        ret

classify:                               ; edi = class, returns handler
        cmp edi, 5
        ja .none
        mov eax, edi
%ifdef ABSOLUTE
        jmp [abs handlers+rax*8]
%elifdef WIDE
        mov rcx, qword handlers
        jmp [rcx+rax*8]
%else
        lea rcx, [handlers]
        jmp [rcx+rax*8]
%endif
.none:  xor eax, eax
        ret
align 8
handlers: dq h0, h1, h2, h3, interp, hash
h0:     mov eax, 0x400000
        ret
h1:
%ifdef ABSOLUTE
        mov eax, handlers
        push qword bad_text
        pop rdx
        cmp rdi, handlers+8
%elifdef WIDE
        mov rax, qword handlers
        mov rdx, qword outside
%endif
        ret
h2:     and eax, 0x401000
        add rax, 0x401040
        ret
h3:     lock inc dword [counter]
        ret

copy:                                   ; Duff's device: an unrolled loop entered in the middle
        mov rcx, rdx
        and edx, 7
        shr rcx, 3
        lea r8, [.end]
        lea r9, [rdx+rdx*8]
        sub r8, r9
        jmp r8
align 8
.body:
%assign n 0
%rep 8
        mov al, [rdi+n]                 ; 9 bytes per step on purpose (disp32)
        db 0x88, 0x86
        dd n
%assign n n+1
%endrep
.end:   dec rcx
        jns .body
        ret

scan:
        xor eax, eax
        mov ecx, string_count
        lea rdx, [strings]
.find:
%ifdef ABSOLUTE
        cmp rdi, [abs strings+rax]
        je .found
        test byte [abs strings-16+rax*8], 1
        mov r10d, [abs strings_end+rax*4]
%else
        cmp rdi, [rdx+rax]
%endif
        je .found
        add eax, 8
        loop .find
        jrcxz .found
.found: jmp short scan_tail
        db 0xe8, 0x00, 0x10, 0x40, 0x00 ; never executed
scan_tail:
        lea rsi, [strings_end]
        cmp rax, rsi
        jae h0
        ret

section .data align=16
strings: dq s0, s1, s2, s3
strings_end:
string_count equ 4
        dq strings_end, counter, handlers, 0x400000, 0x140001000
s0:     db 'zero', 0
s1:     db 'one', 0
s2:     db 'two', 0
s3:     db 'three', 0
        align 4
        dw 1, 2, 3
        dq copy                         ; unaligned pointer
