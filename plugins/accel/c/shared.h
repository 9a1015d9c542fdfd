/* What several kernels need. */

#ifndef TRANSSHIP_SHARED_H
#define TRANSSHIP_SHARED_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"

#define HEADER_BYTES 8u
#define ZERO_RECORD_BYTES 9u
#define STEP_BYTES 256u /* looked at between two decisions: four lines of the cache */

enum {
    PAGE_OUTSIDE = -1,
    TARGET_TOO_SMALL = -2,
    SOURCE_OUTSIDE = -3
};

/* How transship_receive_packets ends. */
enum {
    PACKETS_GO_ON = 0,
    PACKET_IS_OTHER = 1,
    PACKETS_END = 2,
    PACKETS_BREAK_OFF = 3
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

static inline int is_zero(const uint8_t *page, uint64_t page_size)
{
    uint64_t at = 0;
    if (load_word(page))
        return 0; /* most pages that are not zero show it at once */
    for (; at + STEP_BYTES <= page_size; at += STEP_BYTES) {
        uint64_t any[4] = {0, 0, 0, 0};
        for (uint64_t i = 0; i < STEP_BYTES; i += 32)
            for (uint64_t lane = 0; lane < 4; lane++)
                any[lane] |= load_word(page + at + i + 8 * lane);
        if (any[0] | any[1] | any[2] | any[3])
            return 0;
    }
    for (; at < page_size; at++)
        if (page[at])
            return 0;
    return 1;
}

#endif
