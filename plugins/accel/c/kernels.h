/* The kernels, as Python calls them. Each checks every bound before it uses it, and returns a
 * negative code instead of reading or writing outside of what it was given. */

int64_t transship_find_zero_pages(
    const uint8_t *memory, uint64_t memory_bytes, uint64_t page_size,
    const int64_t *pages, uint64_t count, uint8_t *zeros);

int64_t transship_pack_pages(
    const uint8_t *memory, uint64_t memory_bytes, uint64_t page_size,
    const int64_t *pages, uint8_t *zeros, uint64_t count,
    uint64_t full_tag, uint64_t zero_tag, uint64_t budget_bytes,
    uint8_t *target, uint64_t target_bytes);

int64_t transship_pack_changes(
    const uint8_t *new_pages, uint64_t new_bytes, uint64_t page_size,
    const int64_t *pages, const uint8_t *zeros, uint64_t count,
    const uint8_t *old_pages, uint64_t old_bytes, const int64_t *places,
    uint64_t full_tag, uint64_t zero_tag, uint64_t change_tag,
    uint8_t *target, uint64_t target_bytes, int64_t *lengths);

int64_t transship_find_records(
    const uint8_t *window, uint64_t window_bytes, uint64_t page_size, uint64_t page_count,
    uint64_t full_tag, uint64_t zero_tag, int64_t *pages, uint8_t *zeros, uint64_t room);

int64_t transship_load_records(
    const uint8_t *window, uint64_t window_bytes, uint64_t page_size,
    uint64_t full_tag, uint64_t zero_tag,
    uint8_t *memory, uint64_t memory_bytes, uint8_t *touched, int64_t *counts);

int64_t transship_receive_packets(
    int socket, uint8_t *packet, uint64_t packet_bytes, const uint8_t *like, uint64_t page_size,
    uint8_t *memory, uint64_t memory_bytes, uint8_t *touched, uint64_t most_ns, int64_t *counts);

int64_t transship_send_packets(
    int socket, uint8_t *packet, uint64_t packet_bytes, uint64_t number, uint64_t page_size,
    const uint8_t *memory, uint64_t memory_bytes,
    const int64_t *pages, const uint8_t *zeros, uint64_t count, int finds_zeros, int64_t *counts);

int64_t transship_scatter_pages(
    const uint8_t *source, uint64_t source_bytes, const int64_t *positions, uint64_t page_size,
    uint8_t *memory, uint64_t memory_bytes, const int64_t *pages, uint64_t count);

int64_t transship_xbzrle_encode(
    const uint8_t *old_page, const uint8_t *new_page, uint64_t page_size,
    uint8_t *target, uint64_t target_bytes);

int64_t transship_xbzrle_decode(
    const uint8_t *delta, uint64_t delta_bytes, uint8_t *page, uint64_t page_size);

int64_t transship_mark_ranges(
    const int64_t *ranges, uint64_t count, int64_t start, uint64_t page_size,
    uint8_t *marks, uint64_t mark_count);

uint64_t transship_checksum(const uint8_t *memory, uint64_t words);
