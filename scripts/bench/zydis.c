/* Decodes a text with Zydis, operands not expanded: instructions << 32 | relative fields. */
#include <Zydis/Zydis.h>

ZyanU64 sweep(const ZyanU8 *text, ZyanUSize length) {
    ZydisDecoder decoder;
    ZydisDecodedInstruction instruction;
    ZyanU64 count = 0, sites = 0;
    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (ZyanUSize at = 0; at < length;) {
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, ZYAN_NULL, text + at, length - at, &instruction))) {
            at++;
            continue;
        }
        count++;
        if (instruction.attributes & ZYDIS_ATTRIB_IS_RELATIVE) sites++;
        at += instruction.length;
    }
    return count << 32 | sites;
}
