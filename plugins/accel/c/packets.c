/* Packets with pages: between a socket and where the pages are. */

#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "shared.h"

#define MOST_PIECES 1024 /* IOV_MAX of Linux */

/* Where the fields of a packet's header are, and how long it is. */
#define FORMAT_BYTES 16 /* magic, version, flags, how many pages there is room for */
#define NORMAL_AT 16
#define DATA_AT 20
#define NUMBER_AT 24
#define ZERO_AT 32
#define NAME_AT 64
#define PACKET_HEADER_BYTES 320

typedef ssize_t transfer(int socket, struct msghdr *message);

typedef struct {
    int socket;
    transfer *once;
    uint64_t passed;
    int error;
} channel;

static ssize_t receive_some(int socket, struct msghdr *message)
{
    return recvmsg(socket, message, MSG_WAITALL);
}

static ssize_t send_some(int socket, struct msghdr *message)
{
    return sendmsg(socket, message, MSG_NOSIGNAL);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void store_be32(uint8_t *target, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        target[i] = (uint8_t)(value >> (24 - 8 * i));
}

static uint32_t load_be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Pass all pieces on; whether that was possible. What has passed is counted in any case. */
static int pass_all(channel *by, struct iovec *pieces, size_t count)
{
    while (count) {
        struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
        ssize_t some = by->once(by->socket, &message);
        if (some < 0 && errno == EINTR)
            continue;
        if (some <= 0) {
            by->error = some ? errno : 0;
            return 0;
        }
        by->passed += (uint64_t)some;
        while (count && (size_t)some >= pieces->iov_len) {
            some -= (ssize_t)pieces->iov_len;
            pieces++;
            count--;
        }
        if (count) {
            pieces->iov_base = (uint8_t *)pieces->iov_base + some;
            pieces->iov_len -= (size_t)some;
        }
    }
    return 1;
}

static int is_like(const uint8_t *packet, const uint8_t *like)
{
    return !memcmp(packet, like, FORMAT_BYTES) &&
           !memcmp(packet + NAME_AT, like + NAME_AT, PACKET_HEADER_BYTES - NAME_AT);
}

/* Whether a packet lists pages of the memory only, no more than there is room for. */
static int is_sound(
    const uint8_t *packet, uint64_t packet_bytes, uint64_t page_size, uint64_t memory_bytes)
{
    uint64_t normal = load_be32(packet + NORMAL_AT), zero = load_be32(packet + ZERO_AT);
    uint64_t room = (packet_bytes - PACKET_HEADER_BYTES) / 8;
    if (normal + zero == 0 || normal + zero > room)
        return 0;
    if (normal && load_be32(packet + DATA_AT) != normal * page_size)
        return 0;
    for (uint64_t i = 0; i < normal + zero; i++) {
        uint64_t offset = load_be64(packet + PACKET_HEADER_BYTES + 8 * i);
        if (offset % page_size || offset >= memory_bytes)
            return 0;
    }
    return 1;
}

static size_t pieces_of(
    const uint8_t *offsets, uint64_t count, uint64_t page_size,
    const uint8_t *memory, struct iovec *pieces)
{
    size_t found = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t *place = (uint8_t *)memory + load_be64(offsets + 8 * i);
        if (found && (uint8_t *)pieces[found - 1].iov_base + pieces[found - 1].iov_len == place)
            pieces[found - 1].iov_len += page_size;
        else
            pieces[found++] = (struct iovec){place, page_size};
    }
    return found;
}

int64_t transship_receive_packets(
    int socket, uint8_t *packet, uint64_t packet_bytes, const uint8_t *like, uint64_t page_size,
    uint8_t *memory, uint64_t memory_bytes, uint8_t *touched, uint64_t most_ns, int64_t *counts)
{
    channel from = {.socket = socket, .once = receive_some};
    struct iovec pieces[MOST_PIECES];
    int64_t outcome = PACKETS_GO_ON;
    if (packet_bytes < PACKET_HEADER_BYTES || packet_bytes > PACKET_HEADER_BYTES + 8 * MOST_PIECES)
        return PAGE_OUTSIDE;
    counts[0] = counts[1] = 0;
    for (uint64_t until = now_ns() + most_ns; now_ns() < until;) {
        uint64_t before = from.passed;
        struct iovec whole = {packet, packet_bytes};
        if (!pass_all(&from, &whole, 1)) {
            outcome = from.passed == before ? PACKETS_END : PACKETS_BREAK_OFF;
            break;
        }
        if (!is_like(packet, like) || !is_sound(packet, packet_bytes, page_size, memory_bytes)) {
            outcome = PACKET_IS_OTHER;
            break;
        }
        uint64_t normal = load_be32(packet + NORMAL_AT), zero = load_be32(packet + ZERO_AT);
        const uint8_t *offsets = packet + PACKET_HEADER_BYTES;
        size_t count = pieces_of(offsets, normal, page_size, memory, pieces);
        for (uint64_t i = 0; i < normal; i++)
            touched[load_be64(offsets + 8 * i) / page_size] = 1;
        if (!pass_all(&from, pieces, count)) {
            outcome = PACKETS_BREAK_OFF;
            break;
        }
        for (uint64_t j = normal; j < normal + zero; j++) {
            uint64_t offset = load_be64(offsets + 8 * j);
            if (touched[offset / page_size] && !is_zero(memory + offset, page_size))
                memset(memory + offset, 0, page_size);
        }
        counts[0] += (int64_t)normal;
        counts[1] += (int64_t)zero;
    }
    counts[2] = (int64_t)from.passed;
    counts[3] = from.error;
    return outcome;
}

/* Fill in what a packet lists: first the pages that have data, then those that are zero. Returns
 * how many have, or a negative code. */
static int64_t list_pages(
    uint8_t *packet, const uint8_t *memory, uint64_t memory_bytes, uint64_t page_size,
    const int64_t *pages, const uint8_t *zeros, uint64_t count, int finds_zeros)
{
    uint64_t zero_offsets[MOST_PIECES], normal = 0, zero = 0;
    uint8_t *offsets = packet + PACKET_HEADER_BYTES;
    for (uint64_t i = 0; i < count; i++) {
        if (!has_page(pages[i], page_size, memory_bytes))
            return PAGE_OUTSIDE;
        uint64_t offset = (uint64_t)pages[i] * page_size;
        if (zeros[i] || (finds_zeros && is_zero(memory + offset, page_size)))
            zero_offsets[zero++] = offset;
        else
            store_be64(offsets + 8 * normal++, offset);
    }
    for (uint64_t i = 0; i < zero; i++)
        store_be64(offsets + 8 * (normal + i), zero_offsets[i]);
    store_be32(packet + NORMAL_AT, (uint32_t)normal);
    store_be32(packet + DATA_AT, (uint32_t)(normal * page_size));
    store_be32(packet + ZERO_AT, (uint32_t)zero);
    return (int64_t)normal;
}

int64_t transship_send_packets(
    int socket, uint8_t *packet, uint64_t packet_bytes, uint64_t number, uint64_t page_size,
    const uint8_t *memory, uint64_t memory_bytes,
    const int64_t *pages, const uint8_t *zeros, uint64_t count, int finds_zeros, int64_t *counts)
{
    channel to = {.socket = socket, .once = send_some};
    struct iovec pieces[1 + MOST_PIECES];
    if (packet_bytes <= PACKET_HEADER_BYTES || packet_bytes > PACKET_HEADER_BYTES + 8 * MOST_PIECES)
        return PAGE_OUTSIDE;
    uint64_t room = (packet_bytes - PACKET_HEADER_BYTES) / 8;
    counts[0] = 0;
    for (uint64_t start = 0; start < count && !to.error; start += room) {
        uint64_t listed = count - start < room ? count - start : room;
        int64_t normal = list_pages(
            packet, memory, memory_bytes, page_size, pages + start, zeros + start, listed,
            finds_zeros);
        if (normal < 0)
            return normal;
        const uint8_t *offsets = packet + PACKET_HEADER_BYTES;
        memset(packet + PACKET_HEADER_BYTES + 8 * listed, 0, 8 * (room - listed));
        store_be64(packet + NUMBER_AT, number++);
        pieces[0] = (struct iovec){packet, packet_bytes};
        pass_all(
            &to, pieces, 1 + pieces_of(offsets, (uint64_t)normal, page_size, memory, pieces + 1));
        counts[0] += normal;
    }
    counts[1] = (int64_t)to.passed;
    counts[2] = to.error;
    return 0;
}
