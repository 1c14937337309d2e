# The runner: executes a list of commands, among them "run this code with this whole register state".
#
# Three pages are fixed relative to one another: exit pads, code, control block (read-write). Everything is
# addressed relative to rip, so the runner works wherever it is mapped, and it needs no register of the case.
#
#   enter  xrstor loads the vector state, then the 15 general registers, then iretq loads rip, rsp and rflags at
#          once. iretq also serialises: code that was written through another view is fetched anew.
#   leave  the case jumps (or returns) to one of 256 exit pads; nothing of its state has changed until it is stored.
#   fault  the kernel's signal frame lies on a stack of its own; the handler notes the signal, points the frame's
#          rip at `leave` and returns, so that one path stores the state, with every register as at the fault.
#
# A state is 256 bytes, then the XSAVE area in its standard form:
#   0 rax rcx rdx rbx rsp rbp rsi rdi r8..r15, 128 rip, 136 rflags, 144 fs base, 152 gs base (0: the process's own)
#   and of a result: rip 0 where a pad was taken, 160 signal (0 likewise), 168 si_code, 176 si_addr, 184 pad, 192 rflags at the fault,
#   200 error code
# A command is four words: operation, a, b, c. 0: end. 1: copy c bytes from b to a. 2: run from state a to state b.

        .intel_syntax noprefix
        .text

        .set S_RSP, 4 * 8
        .set S_RDI, 7 * 8
        .set S_RIP, 128
        .set S_RFLAGS, 136
        .set S_FS_BASE, 144
        .set S_GS_BASE, 152
        .set S_SIGNAL, 160
        .set S_SI_CODE, 168
        .set S_SI_ADDR, 176
        .set S_PAD, 184
        .set S_FAULT_FLAGS, 192
        .set S_FAULT_ERROR, 200
        .set S_XSAVE, 256

# Page 0: the exit pads, 16 bytes each.
pads:
        .set pad, 0
        .rept 256
        .balign 16, 0xcc
        mov byte ptr [rip + leaving_pad], pad
        jmp leave
        .set pad, pad + 1
        .endr

# Page 1: code.
        .balign 4096, 0xcc

# execute(rdi = commands, rsi = progress): rsi points at a word that always holds the address of the last run
# command begun: whoever kills this process reads there which case hung.
execute:
        push    rbx
        push    rbp
        push    r12
        push    r13
        push    r14
        push    r15
        mov     [rip + next_command], rdi
        mov     [rip + progress], rsi
        mov     [rip + host_rsp], rsp
        mov     eax, [rip + xsave_mask]
        xor     edx, edx
        xsave   [rip + host_xsave]
        cmp     byte ptr [rip + has_fsgsbase], 0
        je      command
        rdfsbase rax
        mov     [rip + host_fs_base], rax

command:
        mov     rbx, [rip + next_command]
        mov     rax, [rbx]
        mov     rdi, [rbx + 8]
        mov     rsi, [rbx + 16]
        mov     rcx, [rbx + 24]
        add     qword ptr [rip + next_command], 32
        cmp     rax, 1
        jb      finish
        ja      run
        rep movsb
        jmp     command

finish:
        mov     eax, [rip + xsave_mask]
        xor     edx, edx
        xrstor  [rip + host_xsave]
        pop     r15
        pop     r14
        pop     r13
        pop     r12
        pop     rbp
        pop     rbx
        ret

run:
        mov     [rip + result], rsi
        mov     rax, [rip + progress]
        mov     [rax], rbx
        xor     eax, eax
        mov     [rsi + S_RIP], rax
        mov     [rsi + S_SIGNAL], rax
        mov     [rsi + S_SI_CODE], rax
        mov     [rsi + S_SI_ADDR], rax
        mov     [rsi + S_FAULT_FLAGS], rax
        mov     [rsi + S_FAULT_ERROR], rax
        cmp     byte ptr [rip + has_fsgsbase], 0
        je      1f
        mov     rax, [rdi + S_FS_BASE]
        test    rax, rax
        cmovz   rax, [rip + host_fs_base]
        wrfsbase rax
        mov     rax, [rdi + S_GS_BASE]
        wrgsbase rax
1:      mov     eax, [rip + xsave_mask]
        xor     edx, edx
        xrstor  [rdi + S_XSAVE]
        mov     eax, ss
        push    rax
        push    qword ptr [rdi + S_RSP]
        push    qword ptr [rdi + S_RFLAGS]
        mov     eax, cs
        push    rax
        push    qword ptr [rdi + S_RIP]
        mov     rax, [rdi]
        mov     rcx, [rdi + 8]
        mov     rdx, [rdi + 16]
        mov     rbx, [rdi + 24]
        mov     rbp, [rdi + 40]
        mov     rsi, [rdi + 48]
        mov     r8, [rdi + 64]
        mov     r9, [rdi + 72]
        mov     r10, [rdi + 80]
        mov     r11, [rdi + 88]
        mov     r12, [rdi + 96]
        mov     r13, [rdi + 104]
        mov     r14, [rdi + 112]
        mov     r15, [rdi + 120]
        mov     rdi, [rdi + S_RDI]
        iretq

leave:
        mov     [rip + case_rsp], rsp
        mov     rsp, [rip + host_rsp]
        pushfq
        push    2                       # no trap, alignment check, nested task or direction flag of the case
        popfq
        push    rdi
        mov     rdi, [rip + result]
        mov     [rdi], rax
        mov     [rdi + 8], rcx
        mov     [rdi + 16], rdx
        mov     [rdi + 24], rbx
        mov     rax, [rip + case_rsp]
        mov     [rdi + S_RSP], rax
        mov     [rdi + 40], rbp
        mov     [rdi + 48], rsi
        pop     qword ptr [rdi + S_RDI]
        mov     [rdi + 64], r8
        mov     [rdi + 72], r9
        mov     [rdi + 80], r10
        mov     [rdi + 88], r11
        mov     [rdi + 96], r12
        mov     [rdi + 104], r13
        mov     [rdi + 112], r14
        mov     [rdi + 120], r15
        pop     qword ptr [rdi + S_RFLAGS]
        movzx   eax, byte ptr [rip + leaving_pad]
        mov     [rdi + S_PAD], rax
        mov     eax, [rip + xsave_mask]
        xor     edx, edx
        xsave   [rdi + S_XSAVE]
        xor     eax, eax
        mov     [rdi + S_FS_BASE], rax
        mov     [rdi + S_GS_BASE], rax
        cmp     byte ptr [rip + has_fsgsbase], 0
        je      command
        rdfsbase rax
        mov     rcx, [rip + host_fs_base]
        wrfsbase rcx
        cmp     rax, rcx
        je      1f                      # the process's own is told as 0, as it was given
        mov     [rdi + S_FS_BASE], rax
1:      rdgsbase rax
        mov     [rdi + S_GS_BASE], rax
        xor     eax, eax
        wrgsbase rax
        jmp     command

# handler(edi = signal, rsi = siginfo, rdx = ucontext), with SA_SIGINFO | SA_ONSTACK.
        .set UC_RIP, 168
        .set UC_FLAGS, 176
        .set UC_ERROR, 192
handler:
        mov     rax, [rip + result]
        mov     [rax + S_SIGNAL], rdi
        movsxd  rcx, dword ptr [rsi + 8]
        mov     [rax + S_SI_CODE], rcx
        mov     rcx, [rsi + 16]
        mov     [rax + S_SI_ADDR], rcx
        mov     rcx, [rdx + UC_RIP]
        mov     [rax + S_RIP], rcx
        mov     rcx, [rdx + UC_ERROR]
        mov     [rax + S_FAULT_ERROR], rcx
        mov     rcx, [rdx + UC_FLAGS]
        mov     [rax + S_FAULT_FLAGS], rcx
        and     qword ptr [rdx + UC_FLAGS], ~0x100      # no single steps through `leave`
        lea     rcx, [rip + leave]
        mov     [rdx + UC_RIP], rcx
        ret

# cpuid(edi = leaf, esi = subleaf, rdx = 4 words of 32 bits: eax ebx ecx edx)
cpu_id:
        push    rbx
        mov     r8, rdx
        mov     eax, edi
        mov     ecx, esi
        cpuid
        mov     [r8], eax
        mov     [r8 + 4], ebx
        mov     [r8 + 8], ecx
        mov     [r8 + 12], edx
        pop     rbx
        ret

# xgetbv(edi) -> rax
x_getbv:
        mov     ecx, edi
        xgetbv
        shl     rdx, 32
        or      rax, rdx
        ret

# Pages 2 and 3: the control block. Never part of the image: it is zeroed memory when the runner starts.
        .set control, pads + 0x2000
        .set next_command, control
        .set progress, control + 8
        .set result, control + 16
        .set host_rsp, control + 24
        .set case_rsp, control + 32
        .set host_fs_base, control + 40
        .set xsave_mask, control + 48
        .set has_fsgsbase, control + 56
        .set leaving_pad, control + 57
        .set host_xsave, control + 64
