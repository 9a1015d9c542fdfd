/* One libfabric endpoint of type FI_EP_RDM with its one peer: messages from slots, remote writes.

   Nothing here waits, calls back, or is safe to be called from two threads at once. Functions that
   can fail return 0 or a count, or a negative number of libfabric's; -11 (FI_EAGAIN) means that
   transship_poll must be called before the same is tried again. */

typedef struct transship_endpoint transship_endpoint;

typedef struct {
    uint32_t kind;   /* TRANSSHIP_SENT or TRANSSHIP_RECEIVED */
    uint32_t slot;
    uint64_t length; /* of what was received */
} transship_event;

typedef struct {
    uint64_t key;
    uint64_t address; /* of the first byte, as a peer must name it */
    int64_t index;
} transship_region;

typedef struct {
    uint64_t from;   /* an address here */
    uint64_t length;
    uint64_t to;     /* an address there */
    uint64_t key;
    int64_t region;  /* index of the region here that `from` lies in; -1 where none is needed */
} transship_write;

#define TRANSSHIP_SENT 1
#define TRANSSHIP_RECEIVED 2

/* Names of the providers that offer endpoints on the interface with this address, one a line. */
int transship_providers(const char *host, char *names, size_t room);

/* Opens an endpoint on the interface with this address.

   slots: slot_count buffers of slot_bytes, which outlive the endpoint; messages are sent from and
   received to them. write_count: most remote writes at a time; 0 for an endpoint without memory. */
int transship_open(const char *provider, const char *host, uint8_t *slots, uint32_t slot_count,
                   uint32_t slot_bytes, uint32_t write_count, transship_endpoint **opened);

/* Gives up everything that was opened: nothing touches slots or regions any more. */
void transship_close(transship_endpoint *endpoint);

/* The endpoint's own address; returns its length. */
int transship_name(transship_endpoint *endpoint, uint8_t *name, size_t room);

/* Says who the peer is. A length that is not that of an address here is refused. */
int transship_connect(transship_endpoint *endpoint, const uint8_t *name, size_t length);

/* A descriptor that is readable when transship_poll has something to do. */
int transship_descriptor(transship_endpoint *endpoint);

/* Whether one may wait for that descriptor now: 1, 0 or an error. */
int transship_may_wait(transship_endpoint *endpoint);

int transship_receive(transship_endpoint *endpoint, uint32_t slot);
int transship_send(transship_endpoint *endpoint, uint32_t slot, uint32_t length);

/* Makes progress; returns how many events there are, and how many writes were completed. */
int transship_poll(transship_endpoint *endpoint, transship_event *events, uint32_t room,
                   uint32_t *written);

/* Whether writes need a region on this side too. */
int transship_needs_local_regions(transship_endpoint *endpoint);

/* Registers memory: for the peer to write to, or to be written from. `random` becomes the key where
   the provider leaves the choice to us. */
int transship_register(transship_endpoint *endpoint, uint8_t *memory, uint64_t length,
                       int is_target, uint64_t random, transship_region *region);

/* Begins writes, as many of them as there is room for; returns how many. */
int transship_begin_writes(transship_endpoint *endpoint, const transship_write *writes,
                           uint32_t count);

const char *transship_explain(int error);
