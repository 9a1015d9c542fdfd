/* Dirty pages: ranges of addresses, as the kernel lists them, become marks. */

#include "shared.h"

int64_t transship_mark_ranges(
    const int64_t *ranges, uint64_t count, int64_t start, uint64_t page_size,
    uint8_t *marks, uint64_t mark_count)
{
    int64_t fresh = 0;
    for (uint64_t i = 0; i < count; i++) {
        int64_t from = ranges[3 * i], to = ranges[3 * i + 1];
        if (from < start || to < from)
            return PAGE_OUTSIDE;
        uint64_t first = (uint64_t)(from - start) / page_size;
        uint64_t end = ((uint64_t)(to - start) + page_size - 1) / page_size;
        if (end > mark_count)
            return PAGE_OUTSIDE;
        for (uint64_t page = first; page < end; page++) {
            fresh += marks[page] == 0;
            marks[page] = 1;
        }
    }
    return fresh;
}
