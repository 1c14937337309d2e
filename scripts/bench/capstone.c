/* Decodes a text with capstone, details on: instructions << 32 | relative fields. */
#include <capstone/capstone.h>

uint64_t sweep(const uint8_t *text, size_t length) {
    csh handle;
    uint64_t count = 0, sites = 0, address = 0;
    if (cs_open(CS_ARCH_X86, CS_MODE_64, &handle) != CS_ERR_OK) return 0;
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    cs_insn *instruction = cs_malloc(handle);
    while (length > 0) {
        if (!cs_disasm_iter(handle, &text, &length, &address, instruction)) {
            text++, length--, address++;
            continue;
        }
        count++;
        const cs_x86 *x86 = &instruction->detail->x86;
        if (cs_insn_group(handle, instruction, CS_GRP_BRANCH_RELATIVE) || (x86->modrm & 0xc7) == 5) sites++;
    }
    cs_free(instruction, 1);
    cs_close(&handle);
    return count << 32 | sites;
}
