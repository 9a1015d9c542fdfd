/* XBZRLE: what has changed of a page, as runs of equal bytes and runs of new ones. */

#include "shared.h"

#define LENGTH_MOST 0x3fffu
#define LENGTH_ROOM 2u
#define CHANGE_HEAD_BYTES 3u
#define CHANGE_MARK 1u
#define CHANGE_MOST 0xffffu
#define LOW_BITS UINT64_C(0x0101010101010101)
#define HIGH_BITS UINT64_C(0x8080808080808080)

static uint64_t equal_until(const uint8_t *a, const uint8_t *b, uint64_t at, uint64_t end)
{
    while (at + 8 <= end && load_word(a + at) == load_word(b + at))
        at += 8;
    while (at < end && a[at] == b[at])
        at++;
    return at;
}

static uint64_t different_until(const uint8_t *a, const uint8_t *b, uint64_t at, uint64_t end)
{
    while (at + 8 <= end) {
        uint64_t apart = load_word(a + at) ^ load_word(b + at);
        if ((apart - LOW_BITS) & ~apart & HIGH_BITS)
            break; /* one of the eight bytes is equal */
        at += 8;
    }
    while (at < end && a[at] != b[at])
        at++;
    return at;
}

static uint64_t put_length(uint8_t *target, uint64_t length)
{
    if (length < 0x80) {
        target[0] = (uint8_t)length;
        return 1;
    }
    target[0] = (uint8_t)((length & 0x7f) | 0x80);
    target[1] = (uint8_t)(length >> 7);
    return 2;
}

int64_t transship_xbzrle_encode(
    const uint8_t *old_page, const uint8_t *new_page, uint64_t page_size,
    uint8_t *target, uint64_t target_bytes)
{
    uint64_t at = 0, used = 0;
    while (at < page_size) {
        uint64_t start = equal_until(old_page, new_page, at, page_size);
        if (used + LENGTH_ROOM > target_bytes)
            return -1;
        if (start == page_size)
            break;
        uint64_t end = different_until(old_page, new_page, start, page_size);
        if (start - at > LENGTH_MOST)
            return -1;
        used += put_length(target + used, start - at);
        if (used + LENGTH_ROOM > target_bytes || end - start > LENGTH_MOST)
            return -1;
        used += put_length(target + used, end - start);
        if (end - start > target_bytes - used)
            return -1;
        memcpy(target + used, new_page + start, end - start);
        used += end - start;
        at = end;
    }
    return (int64_t)used;
}

/* The length at `at`, which is moved behind it; -1 if there is none. Two bytes must be left even
 * for a length of one, since after it something has to follow. */
static int64_t take_length(const uint8_t *delta, uint64_t delta_bytes, uint64_t *at)
{
    if (delta_bytes - *at < LENGTH_ROOM)
        return -1;
    uint64_t low = delta[*at], high = delta[*at + 1];
    if (low < 0x80) {
        *at += 1;
        return (int64_t)low;
    }
    if (high < 0x80) {
        *at += 2;
        return (int64_t)((low & 0x7f) | high << 7);
    }
    return -1;
}

int64_t transship_xbzrle_decode(
    const uint8_t *delta, uint64_t delta_bytes, uint8_t *page, uint64_t page_size)
{
    uint64_t at = 0, end = 0;
    while (at < delta_bytes) {
        int is_first = at == 0;
        int64_t equal = take_length(delta, delta_bytes, &at);
        if (equal < 0 || !(equal || is_first))
            return -1;
        int64_t different = take_length(delta, delta_bytes, &at);
        if (different <= 0)
            return -1;
        if ((uint64_t)equal > page_size - end
            || (uint64_t)different > page_size - end - (uint64_t)equal
            || (uint64_t)different > delta_bytes - at)
            return -1;
        memcpy(page + end + equal, delta + at, (uint64_t)different);
        end += (uint64_t)equal + (uint64_t)different;
        at += (uint64_t)different;
    }
    return (int64_t)end;
}

int64_t transship_pack_changes(
    const uint8_t *new_pages, uint64_t new_bytes, uint64_t page_size,
    const int64_t *pages, const uint8_t *zeros, uint64_t count,
    const uint8_t *old_pages, uint64_t old_bytes, const int64_t *places,
    uint64_t full_tag, uint64_t zero_tag, uint64_t change_tag,
    uint8_t *target, uint64_t target_bytes, int64_t *lengths)
{
    uint8_t encoding[CHANGE_MOST];
    uint64_t most = page_size < CHANGE_MOST ? page_size : CHANGE_MOST, end = 0;
    if (count > new_bytes / page_size)
        return PAGE_OUTSIDE;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *page = new_pages + i * page_size;
        uint64_t offset = (uint64_t)pages[i] * page_size;
        uint64_t room = target_bytes - end;
        lengths[i] = -1;
        if (zeros[i]) {
            if (room < ZERO_RECORD_BYTES)
                return TARGET_TOO_SMALL;
            store_be64(target + end, offset | zero_tag);
            target[end + HEADER_BYTES] = 0;
            end += ZERO_RECORD_BYTES;
            continue;
        }
        if (places[i] >= 0) {
            if (!has_page(places[i], page_size, old_bytes))
                return SOURCE_OUTSIDE;
            const uint8_t *old = old_pages + (uint64_t)places[i] * page_size;
            lengths[i] = transship_xbzrle_encode(old, page, page_size, encoding, most);
            if (lengths[i] == 0)
                continue;
            if (lengths[i] > 0) {
                uint64_t head = HEADER_BYTES + CHANGE_HEAD_BYTES, length = (uint64_t)lengths[i];
                if (room < head + length)
                    return TARGET_TOO_SMALL;
                store_be64(target + end, offset | change_tag);
                target[end + HEADER_BYTES] = CHANGE_MARK;
                target[end + HEADER_BYTES + 1] = (uint8_t)(length >> 8);
                target[end + HEADER_BYTES + 2] = (uint8_t)length;
                memcpy(target + end + head, encoding, length);
                end += head + length;
                continue;
            }
        }
        if (room < HEADER_BYTES + page_size)
            return TARGET_TOO_SMALL;
        store_be64(target + end, offset | full_tag);
        memcpy(target + end + HEADER_BYTES, page, page_size);
        end += HEADER_BYTES + page_size;
    }
    return (int64_t)end;
}
