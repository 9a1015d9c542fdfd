/* What several kernels need. */

#ifndef TRANSSHIP_SHARED_H
#define TRANSSHIP_SHARED_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"

#define HEADER_BYTES 8u
#define ZERO_RECORD_BYTES 9u

enum {
    PAGE_OUTSIDE = -1,
    TARGET_TOO_SMALL = -2,
    SOURCE_OUTSIDE = -3
};

static inline void store_be64(uint8_t *target, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        target[i] = (uint8_t)(value >> (56 - 8 * i));
}

static inline uint64_t load_be64(const uint8_t *source)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | source[i];
    return value;
}

static inline uint64_t load_word(const uint8_t *source)
{
    uint64_t word;
    memcpy(&word, source, sizeof word);
    return word;
}

/* Whether a page with this number lies wholly in so many bytes. */
static inline int has_page(int64_t page, uint64_t page_size, uint64_t bytes)
{
    return page >= 0 && (uint64_t)page < bytes / page_size;
}

#endif
