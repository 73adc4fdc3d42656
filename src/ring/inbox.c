/* SPDX-License-Identifier: MIT */
#include "ring/inbox.h"

#include "ring/ring.h"
#include "sys/memory.h"

#include <errno.h>
#include <stddef.h>

struct cell {
    /* position: free for the writer of that position; position + 1: full, for the reader. With a
     * single cell the two would be the same number; two is the least. */
    _Atomic uint64_t turn;
    uint64_t tag;
    void *ctx;
};

/* Where the owner sleeps, and so what wakes it. */
enum sleep { AWAKE = 0, IN_KERNEL = 1, IN_EVENT_LOOP = 2 };

/* What nobody writes, what the owner writes with each message, and what the senders write: each in
 * cache lines of its own. Sharing one would cost both sides a transfer of the line per message. */
struct sri_inbox {
    struct cell *cells;
    uint64_t mask;
    const struct sri_backend *backend; /* writers do not look at the ring's queue: it may move */
    int wakeup_fd;
    char apart[64];
    uint64_t read_position;
    struct sri_inbox_source *sources;
    char apart_from_senders[64];
    _Atomic uint64_t write_position;
    _Atomic uint32_t owner_sleeps; /* enum sleep */
};

/* The same for the ring: what post() reads of it lies before what the owner writes. */
_Static_assert(offsetof(struct sr_ring, magic) < offsetof(struct sr_ring, apart) &&
                   offsetof(struct sr_ring, owner_key) < offsetof(struct sr_ring, apart) &&
                   offsetof(struct sr_ring, inbox) < offsetof(struct sr_ring, apart) &&
                   offsetof(struct sr_ring, completions_count) > offsetof(struct sr_ring, apart) &&
                   offsetof(struct sr_ring, odd_place_is_message) > offsetof(struct sr_ring, apart),
               "senders and owner do not share a cache line of the ring");

int sri_inbox_create(sr_ring *ring, uint32_t entries) {
    struct sri_inbox *inbox = sri_allocate(1, sizeof *inbox);
    struct cell *cells = sri_allocate(entries, sizeof *cells);
    const int fd =
        inbox != NULL && cells != NULL ? ring->queue.backend->wakeup_open(false) : -ENOMEM;
    if (fd < 0) {
        sri_release(cells);
        sri_release(inbox);
        return fd;
    }
    for (uint32_t i = 0; i < entries; i++) {
        atomic_init(&cells[i].turn, i);
    }
    inbox->cells = cells;
    inbox->mask = entries - 1;
    inbox->backend = ring->queue.backend;
    inbox->wakeup_fd = fd;
    ring->inbox = inbox;
    return 0;
}

void sri_inbox_destroy(sr_ring *ring) {
    if (ring->inbox != NULL) {
        (void)ring->queue.backend->fd_close(ring->inbox->wakeup_fd); /* an eventfd: cannot fail */
        sri_release(ring->inbox->cells);
        sri_release(ring->inbox);
        ring->inbox = NULL;
    }
}

static bool has_message(const struct sri_inbox *inbox) {
    const struct cell *cell = &inbox->cells[inbox->read_position & inbox->mask];
    return atomic_load_explicit(&cell->turn, memory_order_acquire) == inbox->read_position + 1;
}

void sri_inbox_deliver(sr_ring *ring, uint32_t count_max) {
    struct sri_inbox *inbox = ring->inbox;
    while (ring->completions_count < count_max && has_message(inbox)) {
        struct cell *cell = &inbox->cells[inbox->read_position & inbox->mask];
        ring->completions[ring->completions_count++] = (sr_completion){
            .tag = cell->tag,
            .ctx = cell->ctx,
            .flags = SR_COMPLETION_INBOX,
        };
        ring->stats.inbox_received_total++;
        /* Release: the next writer of this cell may overwrite what was read. */
        atomic_store_explicit(&cell->turn, inbox->read_position + inbox->mask + 1,
                              memory_order_release);
        inbox->read_position++;
    }
}

void sri_inbox_add_source(sr_ring *ring, struct sri_inbox_source *source) {
    source->next = ring->inbox->sources;
    ring->inbox->sources = source;
}

void sri_inbox_remove_source(sr_ring *ring, struct sri_inbox_source *source) {
    struct sri_inbox_source **link = &ring->inbox->sources;
    while (*link != source) {
        SR_CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = source->next;
}

static bool has_work(const struct sri_inbox *inbox) {
    bool has = has_message(inbox);
    for (struct sri_inbox_source *source = inbox->sources; source != NULL && !has;
         source = source->next) {
        has = source->has_work(source);
    }
    return has;
}

bool sri_inbox_has_work(const sr_ring *ring) {
    return ring->inbox != NULL && has_work(ring->inbox);
}

/* Pairs with the exchange in sri_inbox_ring(): either the writer sees that we sleep, or we see its
 * message. Both are sequentially consistent, because each side writes one word and reads the other.
 */
static bool fall_asleep(struct sri_inbox *inbox, enum sleep where) {
    atomic_store(&inbox->owner_sleeps, (uint32_t)where);
    atomic_thread_fence(memory_order_seq_cst);
    return !has_work(inbox);
}

bool sri_inbox_prepare_sleep(sr_ring *ring) {
    struct sri_inbox *inbox = ring->inbox;
    if (!ring->wake_armed) {
        if (!sri_ring_make_room(ring)) {
            return false;
        }
        struct io_uring_sqe *sqe = sri_queue_next_sqe(&ring->queue);
        sri_sqe_transfer_to_uapi(sqe, IORING_OP_READ, (struct sri_sqe_file){inbox->wakeup_fd, -1},
                                 &ring->wake_count, sizeof ring->wake_count, 0);
        sqe->user_data = sri_internal_user_data(SRI_INTERNAL_WAKE);
        ring->wake_armed = true;
    }
    return fall_asleep(inbox, IN_KERNEL);
}

bool sri_inbox_prepare_event(sr_ring *ring) {
    return fall_asleep(ring->inbox, IN_EVENT_LOOP);
}

void sri_inbox_awake(sr_ring *ring) {
    atomic_store_explicit(&ring->inbox->owner_sleeps, AWAKE, memory_order_relaxed);
}

/* The cell that this writer may fill, or NULL when all are full. */
static struct cell *claim(struct sri_inbox *inbox, uint64_t *out_position) {
    uint64_t position = atomic_load_explicit(&inbox->write_position, memory_order_relaxed);
    for (;;) {
        struct cell *cell = &inbox->cells[position & inbox->mask];
        const uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn == position) {
            if (atomic_compare_exchange_weak_explicit(&inbox->write_position, &position,
                                                      position + 1, memory_order_relaxed,
                                                      memory_order_relaxed)) {
                *out_position = position;
                return cell;
            }
        } else if (turn < position) {
            return NULL; /* the reader has not emptied it since the last round */
        } else {
            position = atomic_load_explicit(&inbox->write_position, memory_order_relaxed);
        }
    }
}

void sri_inbox_ring(sr_ring *ring) {
    struct sri_inbox *inbox = ring->inbox;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&inbox->owner_sleeps) != AWAKE) {
        const uint32_t where = atomic_exchange(&inbox->owner_sleeps, AWAKE);
        if (where != AWAKE) {
            inbox->backend->wakeup_write(where == IN_KERNEL ? inbox->wakeup_fd : ring->wakeup_fd);
        }
    }
}

static int post(sr_ring *ring, uint64_t tag, void *ctx) {
    if (!sri_ring_is_valid(ring)) {
        return SR_E_OBJECT;
    }
    if (sri_owner_is_forked(ring->owner_key)) {
        return SR_E_FORKED;
    }
    struct sri_inbox *inbox = ring->inbox;
    if (inbox == NULL) {
        return SR_E_STATE;
    }
    uint64_t position = 0;
    struct cell *cell = claim(inbox, &position);
    if (cell == NULL) {
        return SR_E_FULL;
    }
    cell->tag = tag;
    cell->ctx = ctx;
    atomic_store_explicit(&cell->turn, position + 1, memory_order_release);
    sri_inbox_ring(ring);
    return 0;
}

int sr_inbox_post(sr_ring *ring, uint64_t tag, void *ctx) {
    const int code = post(ring, tag, ctx);
    return code == 0 || code == SR_E_FULL ? code : SRI_MISUSE(code, 0);
}
