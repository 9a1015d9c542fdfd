#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_eq.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include "endpoint.h"

#define API FI_VERSION(1, 11)
#define BATCH 64u /* completions read at a time */
#define MR_MODES (FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY)

/* An operation under way; its address is the context that its completion carries. */
typedef struct operation {
    struct fi_context2 context; /* first: the provider's, where it asks for room */
    uint32_t kind;
    uint32_t slot;
    struct operation *next_free;
} operation;

#define WRITTEN 3u

struct transship_endpoint {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    struct fid_mr *slots_region;
    struct fid_mr **regions;
    int64_t region_count;
    int64_t region_room;
    fi_addr_t peer;
    uint8_t *slots;
    uint32_t slot_count;
    uint32_t slot_bytes;
    operation *operations; /* one a slot, then one a write */
    operation *free_writes;
};

/* What is asked for, from the best to what will do: completion when the data is in the peer's
   memory, and messages that do not overtake writes. Order alone would not do with tcp;ofi_rxm: it
   drops a connection over a write that the peer refuses, and sends what follows over another. */
static const struct {
    uint64_t op_flags;
    uint64_t order;
} WISHES[] = {
    {FI_DELIVERY_COMPLETE, FI_ORDER_SAS | FI_ORDER_SAW},
    {FI_DELIVERY_COMPLETE, FI_ORDER_SAS},
    {0, FI_ORDER_SAS | FI_ORDER_SAW},
};

static int find(const char *provider, const char *host, int for_memory, size_t wish,
                struct fi_info **found)
{
    int error = -FI_ENOMEM;
    struct fi_info *hints = fi_allocinfo();
    if (!hints)
        return error;
    hints->caps = FI_MSG | FI_SEND | FI_RECV;
    if (for_memory) {
        hints->caps |= FI_RMA | FI_WRITE | FI_REMOTE_WRITE;
        hints->tx_attr->op_flags = WISHES[wish].op_flags;
    }
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = MR_MODES;
    hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
    hints->tx_attr->msg_order = for_memory ? WISHES[wish].order : FI_ORDER_SAS;
    hints->rx_attr->msg_order = hints->tx_attr->msg_order;
    if (provider && !(hints->fabric_attr->prov_name = strdup(provider)))
        goto end;
    error = fi_getinfo(API, host, NULL, FI_SOURCE | FI_NUMERICHOST, hints, found);
end:
    fi_freeinfo(hints);
    return error;
}

static int is_for_hosts(const struct fi_info *info)
{
    return info->addr_format == FI_SOCKADDR || info->addr_format == FI_SOCKADDR_IN ||
           info->addr_format == FI_SOCKADDR_IN6;
}

int transship_providers(const char *host, char *names, size_t room)
{
    struct fi_info *found = NULL;
    size_t used = 0;
    int error = -FI_ENODATA;
    names[0] = 0;
    for (size_t wish = 0; error && wish < sizeof WISHES / sizeof *WISHES; wish++)
        error = find(NULL, host, 1, wish, &found);
    if (error)
        return error;
    for (const struct fi_info *info = found; info; info = info->next) {
        size_t length = strlen(info->fabric_attr->prov_name);
        if (!is_for_hosts(info) || used + length + 2 > room)
            continue;
        memcpy(names + used, info->fabric_attr->prov_name, length);
        used += length;
        names[used++] = '\n';
        names[used] = 0;
    }
    fi_freeinfo(found);
    return 0;
}

static int open_on(transship_endpoint *endpoint, uint32_t write_count)
{
    struct fi_cq_attr cq = {
        .size = endpoint->slot_count + write_count + 16,
        .format = FI_CQ_FORMAT_MSG,
        .wait_obj = FI_WAIT_FD,
    };
    struct fi_av_attr av = {.type = FI_AV_UNSPEC, .count = 1};
    int error;

    endpoint->info->rx_attr->size = endpoint->slot_count;
    endpoint->info->tx_attr->size = endpoint->slot_count + write_count;
    if ((error = fi_fabric(endpoint->info->fabric_attr, &endpoint->fabric, NULL)) ||
        (error = fi_domain(endpoint->fabric, endpoint->info, &endpoint->domain, NULL)) ||
        (error = fi_av_open(endpoint->domain, &av, &endpoint->av, NULL)) ||
        (error = fi_cq_open(endpoint->domain, &cq, &endpoint->cq, NULL)) ||
        (error = fi_endpoint(endpoint->domain, endpoint->info, &endpoint->ep, NULL)) ||
        (error = fi_ep_bind(endpoint->ep, &endpoint->av->fid, 0)) ||
        (error = fi_ep_bind(endpoint->ep, &endpoint->cq->fid, FI_TRANSMIT | FI_RECV)) ||
        (error = fi_enable(endpoint->ep)))
        return error;
    if (endpoint->info->domain_attr->mr_mode & FI_MR_LOCAL)
        return fi_mr_reg(endpoint->domain, endpoint->slots,
                         (size_t)endpoint->slot_count * endpoint->slot_bytes, FI_SEND | FI_RECV, 0,
                         ~(uint64_t)0 >> (64 - 8 * (endpoint->info->domain_attr->mr_key_size < 8
                                                        ? endpoint->info->domain_attr->mr_key_size
                                                        : 8)),
                         0, &endpoint->slots_region, NULL);
    return 0;
}

int transship_open(const char *provider, const char *host, uint8_t *slots, uint32_t slot_count,
                   uint32_t slot_bytes, uint32_t write_count, transship_endpoint **opened)
{
    int error = -FI_ENOMEM;
    transship_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return error;
    endpoint->peer = FI_ADDR_UNSPEC;
    endpoint->slots = slots;
    endpoint->slot_count = slot_count;
    endpoint->slot_bytes = slot_bytes;
    endpoint->operations = calloc((size_t)slot_count + write_count, sizeof *endpoint->operations);
    if (!endpoint->operations)
        goto fail;
    for (uint32_t i = slot_count; i < slot_count + write_count; i++) {
        endpoint->operations[i].kind = WRITTEN;
        endpoint->operations[i].next_free = endpoint->free_writes;
        endpoint->free_writes = &endpoint->operations[i];
    }
    error = -FI_ENODATA;
    for (size_t wish = 0; error && wish < sizeof WISHES / sizeof *WISHES; wish++)
        error = find(provider, host, write_count > 0, wish, &endpoint->info);
    if (!error)
        error = open_on(endpoint, write_count);
    if (error)
        goto fail;
    *opened = endpoint;
    return 0;
fail:
    transship_close(endpoint);
    return error;
}

static void close_fid(struct fid *fid)
{
    if (fid)
        fi_close(fid);
}

void transship_close(transship_endpoint *endpoint)
{
    if (!endpoint)
        return;
    if (endpoint->ep)
        close_fid(&endpoint->ep->fid);
    for (int64_t i = 0; i < endpoint->region_count; i++)
        close_fid(&endpoint->regions[i]->fid);
    if (endpoint->slots_region)
        close_fid(&endpoint->slots_region->fid);
    if (endpoint->cq)
        close_fid(&endpoint->cq->fid);
    if (endpoint->av)
        close_fid(&endpoint->av->fid);
    if (endpoint->domain)
        close_fid(&endpoint->domain->fid);
    if (endpoint->fabric)
        close_fid(&endpoint->fabric->fid);
    if (endpoint->info)
        fi_freeinfo(endpoint->info);
    free(endpoint->regions);
    free(endpoint->operations);
    free(endpoint);
}

int transship_name(transship_endpoint *endpoint, uint8_t *name, size_t room)
{
    size_t length = room;
    int error = fi_getname(&endpoint->ep->fid, name, &length);
    return error ? error : (int)length;
}

int transship_connect(transship_endpoint *endpoint, const uint8_t *name, size_t length)
{
    uint8_t own[256];
    size_t own_length = sizeof own;
    int error = fi_getname(&endpoint->ep->fid, own, &own_length);
    if (error)
        return error;
    /* The provider takes a pointer alone, and reads as much as an address of its own has; an address
       of hosts begins with its family. */
    if (length != own_length || length < 2 ||
        (is_for_hosts(endpoint->info) && memcmp(name, own, 2)))
        return -FI_EINVAL;
    error = fi_av_insert(endpoint->av, name, 1, &endpoint->peer, 0, NULL);
    return error == 1 ? 0 : error < 0 ? error : -FI_EINVAL;
}

int transship_descriptor(transship_endpoint *endpoint)
{
    int descriptor = -1;
    int error = fi_control(&endpoint->cq->fid, FI_GETWAIT, &descriptor);
    return error ? error : descriptor;
}

int transship_may_wait(transship_endpoint *endpoint)
{
    struct fid *waited[] = {&endpoint->cq->fid};
    int error = fi_trywait(endpoint->fabric, waited, 1);
    return error == -FI_EAGAIN ? 0 : error ? error : 1;
}

static operation *operation_of(transship_endpoint *endpoint, uint32_t slot, uint32_t kind)
{
    operation *made = &endpoint->operations[slot];
    made->kind = kind;
    made->slot = slot;
    return made;
}

static uint8_t *memory_of(transship_endpoint *endpoint, uint32_t slot)
{
    return endpoint->slots + (size_t)slot * endpoint->slot_bytes;
}

static void *description_of(struct fid_mr *region)
{
    return region ? fi_mr_desc(region) : NULL;
}

int transship_receive(transship_endpoint *endpoint, uint32_t slot)
{
    if (slot >= endpoint->slot_count)
        return -FI_EINVAL;
    return (int)fi_recv(endpoint->ep, memory_of(endpoint, slot), endpoint->slot_bytes,
                        description_of(endpoint->slots_region), FI_ADDR_UNSPEC,
                        operation_of(endpoint, slot, TRANSSHIP_RECEIVED));
}

int transship_send(transship_endpoint *endpoint, uint32_t slot, uint32_t length)
{
    if (slot >= endpoint->slot_count || length > endpoint->slot_bytes ||
        endpoint->peer == FI_ADDR_UNSPEC)
        return -FI_EINVAL;
    return (int)fi_send(endpoint->ep, memory_of(endpoint, slot), length,
                        description_of(endpoint->slots_region), endpoint->peer,
                        operation_of(endpoint, slot, TRANSSHIP_SENT));
}

static int why_failed(transship_endpoint *endpoint)
{
    struct fi_cq_err_entry failure = {0};
    ssize_t count = fi_cq_readerr(endpoint->cq, &failure, 0);
    if (count < 0)
        return (int)count;
    return failure.err > 0 ? -failure.err : -FI_EOTHER;
}

int transship_poll(transship_endpoint *endpoint, transship_event *events, uint32_t room,
                   uint32_t *written)
{
    struct fi_cq_msg_entry completions[BATCH];
    uint32_t found = 0;
    *written = 0;
    while (found < room) {
        size_t wanted = room - found < BATCH ? room - found : BATCH;
        ssize_t count = fi_cq_read(endpoint->cq, completions, wanted);
        if (count == -FI_EAGAIN)
            break;
        if (count == -FI_EAVAIL) {
            int error = why_failed(endpoint);
            if (error == -FI_EAGAIN)
                break;
            return error;
        }
        if (count < 0)
            return (int)count;
        for (ssize_t i = 0; i < count; i++) {
            operation *done = completions[i].op_context;
            if (!done)
                continue;
            if (done->kind == WRITTEN) {
                done->next_free = endpoint->free_writes;
                endpoint->free_writes = done;
                ++*written;
                continue;
            }
            events[found].kind = done->kind;
            events[found].slot = done->slot;
            events[found].length = done->kind == TRANSSHIP_RECEIVED ? completions[i].len : 0;
            found++;
        }
        if ((size_t)count < wanted)
            break;
    }
    return (int)found;
}

int transship_needs_local_regions(transship_endpoint *endpoint)
{
    return !!(endpoint->info->domain_attr->mr_mode & FI_MR_LOCAL);
}

static int make_room_for_region(transship_endpoint *endpoint)
{
    if (endpoint->region_count < endpoint->region_room)
        return 0;
    int64_t room = endpoint->region_room ? 2 * endpoint->region_room : 64;
    struct fid_mr **more = realloc(endpoint->regions, (size_t)room * sizeof *more);
    if (!more)
        return -FI_ENOMEM;
    endpoint->regions = more;
    endpoint->region_room = room;
    return 0;
}

int transship_register(transship_endpoint *endpoint, uint8_t *memory, uint64_t length,
                       int is_target, uint64_t random, transship_region *region)
{
    const struct fi_domain_attr *domain = endpoint->info->domain_attr;
    struct fid_mr *made = NULL;
    int error = make_room_for_region(endpoint);
    if (error)
        return error;
    if (domain->mr_key_size && domain->mr_key_size < 8)
        random &= ((uint64_t)1 << (8 * domain->mr_key_size)) - 1;
    error = fi_mr_reg(endpoint->domain, memory, length, is_target ? FI_REMOTE_WRITE : FI_WRITE, 0,
                      random, 0, &made, NULL);
    if (error)
        return error;
    region->index = endpoint->region_count;
    region->key = fi_mr_key(made);
    region->address = domain->mr_mode & FI_MR_VIRT_ADDR ? (uint64_t)(uintptr_t)memory : 0;
    endpoint->regions[endpoint->region_count++] = made;
    return region->key == FI_KEY_NOTAVAIL ? -FI_ENOKEY : 0;
}

int transship_begin_writes(transship_endpoint *endpoint, const transship_write *writes,
                           uint32_t count)
{
    uint32_t begun = 0;
    if (endpoint->peer == FI_ADDR_UNSPEC)
        return -FI_EINVAL;
    for (; begun < count && endpoint->free_writes; begun++) {
        const transship_write *write = &writes[begun];
        operation *made = endpoint->free_writes;
        struct fid_mr *region = NULL;
        ssize_t error;
        if (write->region >= endpoint->region_count)
            return -FI_EINVAL;
        if (write->region >= 0)
            region = endpoint->regions[write->region];
        error = fi_write(endpoint->ep, (const void *)(uintptr_t)write->from, write->length,
                         description_of(region), endpoint->peer, write->to, write->key, made);
        if (error == -FI_EAGAIN)
            break;
        if (error)
            return (int)error;
        endpoint->free_writes = made->next_free;
    }
    return (int)begun;
}

const char *transship_explain(int error)
{
    return fi_strerror(error < 0 ? -error : error);
}
