/* A checksum of guest memory: two sums of its words, one of them weighted by their places. */

#include "shared.h"

#define MULTIPLIER UINT64_C(0x9e3779b97f4a7c15)

static uint64_t little_endian(const uint8_t *source)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | source[i];
    return value;
#else
    return load_word(source);
#endif
}

uint64_t transship_checksum(const uint8_t *memory, uint64_t words)
{
    uint64_t plain = 0, weighted = 0;
    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = little_endian(memory + 8 * i);
        plain += word;
        weighted += word * (i + 1);
    }
    return plain * MULTIPLIER ^ weighted;
}
