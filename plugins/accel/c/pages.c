/* Pages: which are zero, out of memory into records, and out of records into memory. */

#include "shared.h"

#define LOOKED_AT_BYTES (16u << 20) /* of memory that is to be zero, in one call: a millisecond */

int64_t transship_find_zero_pages(
    const uint8_t *memory, uint64_t memory_bytes, uint64_t page_size,
    const int64_t *pages, uint64_t count, uint8_t *zeros)
{
    for (uint64_t i = 0; i < count; i++) {
        int64_t page = pages ? pages[i] : (int64_t)i;
        if (!has_page(page, page_size, memory_bytes))
            return PAGE_OUTSIDE;
        zeros[i] = (uint8_t)is_zero(memory + (uint64_t)page * page_size, page_size);
    }
    return (int64_t)count;
}

int64_t transship_pack_pages(
    const uint8_t *memory, uint64_t memory_bytes, uint64_t page_size,
    const int64_t *pages, uint8_t *zeros, uint64_t count,
    uint64_t full_tag, uint64_t zero_tag, uint64_t budget_bytes,
    uint8_t *target, uint64_t target_bytes)
{
    uint64_t end = 0, i = 0;
    for (; i < count && end < budget_bytes; i++) {
        if (!has_page(pages[i], page_size, memory_bytes))
            return PAGE_OUTSIDE;
        uint64_t offset = (uint64_t)pages[i] * page_size;
        if (!zeros[i])
            zeros[i] = (uint8_t)is_zero(memory + offset, page_size);
        uint64_t payload = zeros[i] ? 1 : page_size;
        if (target_bytes - end < HEADER_BYTES + payload)
            return TARGET_TOO_SMALL;
        store_be64(target + end, offset | (zeros[i] ? zero_tag : full_tag));
        end += HEADER_BYTES;
        if (zeros[i])
            target[end] = 0;
        else
            memcpy(target + end, memory + offset, page_size);
        end += payload;
    }
    return (int64_t)i;
}

/* What a record at the start of some bytes is: its size, or 0 if it is none of the two kinds, or
 * not there completely, or wrong. */
static uint64_t record_size(
    const uint8_t *record, uint64_t bytes, uint64_t page_size, uint64_t page_count,
    uint64_t full_tag, uint64_t zero_tag, uint64_t *page)
{
    if (bytes < HEADER_BYTES)
        return 0;
    uint64_t word = load_be64(record), tag = word % page_size;
    uint64_t size = tag == zero_tag ? ZERO_RECORD_BYTES : HEADER_BYTES + page_size;
    *page = word / page_size;
    if ((tag != zero_tag && tag != full_tag) || bytes < size || *page >= page_count)
        return 0;
    return tag == zero_tag && record[HEADER_BYTES] ? 0 : size;
}

int64_t transship_find_records(
    const uint8_t *window, uint64_t window_bytes, uint64_t page_size, uint64_t page_count,
    uint64_t full_tag, uint64_t zero_tag, int64_t *pages, uint8_t *zeros, uint64_t room)
{
    uint64_t start = 0, count = 0;
    while (count < room) {
        uint64_t page, size = record_size(
            window + start, window_bytes - start, page_size, page_count, full_tag, zero_tag, &page);
        if (!size)
            break;
        pages[count] = (int64_t)page;
        zeros[count] = size == ZERO_RECORD_BYTES;
        count++;
        start += size;
    }
    return (int64_t)count;
}

int64_t transship_load_records(
    const uint8_t *window, uint64_t window_bytes, uint64_t page_size,
    uint64_t full_tag, uint64_t zero_tag,
    uint8_t *memory, uint64_t memory_bytes, uint8_t *touched, int64_t *counts)
{
    uint64_t start = 0, looked_at = 0;
    counts[0] = counts[1] = 0;
    while (looked_at < LOOKED_AT_BYTES) {
        uint64_t page, size = record_size(
            window + start, window_bytes - start, page_size, memory_bytes / page_size,
            full_tag, zero_tag, &page);
        if (!size)
            break;
        uint8_t *place = memory + page * page_size;
        if (size == ZERO_RECORD_BYTES) {
            if (touched[page]) {
                if (!is_zero(place, page_size))
                    memset(place, 0, page_size);
                looked_at += page_size;
            }
            counts[1]++;
        } else {
            memcpy(place, window + start + HEADER_BYTES, page_size);
            touched[page] = 1;
            counts[0]++;
        }
        start += size;
    }
    return (int64_t)start;
}

int64_t transship_scatter_pages(
    const uint8_t *source, uint64_t source_bytes, const int64_t *positions, uint64_t page_size,
    uint8_t *memory, uint64_t memory_bytes, const int64_t *pages, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (positions[i] < 0 || source_bytes < page_size
            || (uint64_t)positions[i] > source_bytes - page_size)
            return SOURCE_OUTSIDE;
        if (!has_page(pages[i], page_size, memory_bytes))
            return PAGE_OUTSIDE;
        memcpy(memory + (uint64_t)pages[i] * page_size, source + positions[i], page_size);
    }
    return 0;
}
