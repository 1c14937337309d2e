/* The rival of apply: copy, then add to the fields of two sorted lists. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

void move_code(uint8_t *restrict into, const uint8_t *restrict code, size_t length,
               const uint32_t *restrict pc, size_t pcs, int32_t pc_change,
               const uint32_t *restrict pointers, size_t pointer_count, int64_t change) {
    memcpy(into, code, length);
    for (size_t i = 0; i < pcs; i++) {
        int32_t value;
        memcpy(&value, into + pc[i], 4);
        value += pc_change;
        memcpy(into + pc[i], &value, 4);
    }
    for (size_t i = 0; i < pointer_count; i++) {
        int64_t value;
        memcpy(&value, into + pointers[i], 8);
        value += change;
        memcpy(into + pointers[i], &value, 8);
    }
}
