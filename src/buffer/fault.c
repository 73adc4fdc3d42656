/* SPDX-License-Identifier: MIT */
#include "buffer/fault.h"

#include "buffer/pool.h"
#include "buffer/protect.h"
#include "sys/trap.h"

#include <pthread.h>

/* ---- notes ----------------------------------------------------------------------------------- */

/* A free note, or the oldest. */
static struct sri_note *note_to_use(struct sri_notes *notes) {
    struct sri_note *oldest = &notes->list[0];
    for (uint32_t i = 0; i < SRI_NOTES_PER_SLOT; i++) {
        struct sri_note *note = &notes->list[i];
        if (atomic_load_explicit(&note->loan, memory_order_relaxed) == 0) {
            return note;
        }
        if (atomic_load_explicit(&note->submitted_ns, memory_order_relaxed) <
            atomic_load_explicit(&oldest->submitted_ns, memory_order_relaxed)) {
            oldest = note;
        }
    }
    return oldest;
}

void sri_notes_add(struct sri_notes *notes, const struct sri_loan *loan,
                   const struct sri_loan_note *note) {
    struct sri_note *kept = note_to_use(notes);
    atomic_store_explicit(&kept->loan, 0, memory_order_relaxed);
    atomic_store_explicit(&kept->op, note->op, memory_order_relaxed);
    atomic_store_explicit(&kept->submitted_ns, note->submitted_ns, memory_order_relaxed);
    atomic_store_explicit(&kept->begin, loan->begin, memory_order_relaxed);
    atomic_store_explicit(&kept->end, loan->end, memory_order_relaxed);
    atomic_store_explicit(&kept->fd, note->fd, memory_order_relaxed);
    atomic_store_explicit(&kept->opcode, note->opcode, memory_order_relaxed);
    atomic_store_explicit(&kept->writer, loan->writer, memory_order_relaxed);
    /* Release: pairs with the load in note_for(). */
    atomic_store_explicit(&kept->loan, (uintptr_t)loan, memory_order_release);
}

void sri_notes_drop(struct sri_notes *notes, const struct sri_loan *loan) {
    for (uint32_t i = 0; i < SRI_NOTES_PER_SLOT; i++) {
        struct sri_note *note = &notes->list[i];
        if (atomic_load_explicit(&note->loan, memory_order_relaxed) == (uintptr_t)loan) {
            atomic_store_explicit(&note->loan, 0, memory_order_relaxed);
        }
    }
}

void sri_notes_clear(struct sri_notes *notes) {
    for (uint32_t i = 0; i < SRI_NOTES_PER_SLOT; i++) {
        atomic_store_explicit(&notes->list[i].loan, 0, memory_order_relaxed);
    }
}

/* ---- pools ----------------------------------------------------------------------------------- */

/* The range is here, so that a pool is looked into only if the fault is in its memory. */
struct watched {
    _Atomic(const sr_pool *) pool; /* NULL: place is free */
    _Atomic uintptr_t begin;
    _Atomic uintptr_t end;
};

static struct watched watched_pools[SRI_FAULT_POOLS_MAX];
static _Atomic uint32_t watched_places; /* ever used, so that few are looked at */
static _Atomic uint32_t readers;        /* signal handlers that look into a pool now */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

/* The parent's threads, and what they were reading, are not there. */
static void after_fork_in_child(void) {
    atomic_store(&readers, 0);
}

static void watch_forks(void) {
    /* Failing (no memory) matters only to a child of a fork in the midst of a report. */
    (void)pthread_atfork(NULL, NULL, after_fork_in_child);
}

void sri_fault_watch(const sr_pool *pool) {
    const uintptr_t begin = (uintptr_t)pool->base;
    pthread_once(&fork_once, watch_forks);
    for (uint32_t i = 0; i < SRI_FAULT_POOLS_MAX; i++) {
        const sr_pool *nobody = NULL;
        struct watched *place = &watched_pools[i];
        if (atomic_compare_exchange_strong(&place->pool, &nobody, pool)) {
            atomic_store(&place->begin, begin);
            atomic_store(&place->end, begin + (size_t)pool->slot_count * pool->stride_bytes);
            uint32_t places = atomic_load(&watched_places);
            while (places <= i && !atomic_compare_exchange_weak(&watched_places, &places, i + 1)) {
            }
            return;
        }
    }
}

void sri_fault_forget(const sr_pool *pool) {
    for (uint32_t i = 0; i < SRI_FAULT_POOLS_MAX; i++) {
        if (atomic_load(&watched_pools[i].pool) == pool) {
            atomic_store(&watched_pools[i].end, 0);
            atomic_store(&watched_pools[i].pool, NULL);
            break;
        }
    }
    while (atomic_load(&readers) != 0) {
        /* Only while another thread's fault is being looked up: that takes no lock and no wait. */
    }
}

static const sr_pool *pool_at(uintptr_t address) {
    const uint32_t places = atomic_load(&watched_places);
    for (uint32_t i = 0; i < places; i++) {
        const struct watched *place = &watched_pools[i];
        if (address >= atomic_load(&place->begin) && address < atomic_load(&place->end)) {
            return atomic_load(&place->pool);
        }
    }
    return NULL;
}

/* ---- report ---------------------------------------------------------------------------------- */

struct text {
    char bytes[1024];
    size_t count;
};

static void put(struct text *text, const char *words) {
    while (*words != '\0' && text->count < sizeof text->bytes) {
        text->bytes[text->count++] = *words++;
    }
}

static void put_number(struct text *text, uint64_t value, unsigned int base, unsigned int width) {
    char digits[24];
    size_t first = sizeof digits - 1;
    digits[first] = '\0';
    do {
        digits[--first] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0 || (sizeof digits - 1 - first < width && first > 0));
    put(text, &digits[first]);
}

static void put_hex(struct text *text, uint64_t value) {
    put(text, "0x");
    put_number(text, value, 16, 1);
}

static void put_decimal(struct text *text, uint64_t value) {
    put_number(text, value, 10, 1);
}

static void put_seconds(struct text *text, uint64_t ns) {
    put_decimal(text, ns / 1000000000u);
    put(text, ".");
    put_number(text, ns % 1000000000u, 10, 9);
    put(text, " s");
}

/* The newest note of a loan that has @offset, or NULL. */
static const struct sri_note *note_for(const struct sri_notes *notes, size_t offset) {
    const struct sri_note *newest = NULL;
    for (uint32_t i = 0; i < SRI_NOTES_PER_SLOT; i++) {
        const struct sri_note *note = &notes->list[i];
        if (atomic_load_explicit(&note->loan, memory_order_acquire) != 0 && offset >= note->begin &&
            offset < note->end && (newest == NULL || note->submitted_ns > newest->submitted_ns)) {
            newest = note;
        }
    }
    return newest;
}

static void put_touch(struct text *text, const struct sri_trap *trap) {
    static const char *const verbs[] = {
        [SRI_TOUCH_UNKNOWN] = "touched",
        [SRI_TOUCH_READ] = "read",
        [SRI_TOUCH_WRITE] = "wrote to",
    };
    put(text, "safering: the program ");
    put(text, verbs[trap->touch]);
    put(text, trap->memory_failed ? " memory that failed" : " memory that is lent to the kernel");
}

static void put_note(struct text *text, const struct sri_note *note, uint64_t now_ns) {
    const uint64_t submitted_ns = note->submitted_ns;
    const int fd = note->fd;
    put(text, "safering: lent to operation ");
    put_hex(text, note->op);
    put(text, " (opcode ");
    put_decimal(text, note->opcode);
    put(text, note->writer ? "), which writes bytes " : "), which reads bytes ");
    put_decimal(text, note->begin);
    put(text, " to ");
    put_decimal(text, note->end - 1);
    if (fd >= 0) {
        put(text, ", descriptor ");
        put_decimal(text, (uint64_t)fd);
    }
    put(text, ", submitted at ");
    put_seconds(text, submitted_ns);
    put(text, ", ");
    put_seconds(text, now_ns > submitted_ns ? now_ns - submitted_ns : 0);
    put(text, " ago\n");
}

static void put_report(struct text *text, const sr_pool *pool, const struct sri_trap *trap) {
    const size_t where = trap->address - (uintptr_t)pool->base;
    const size_t offset = where % pool->stride_bytes;
    const struct sri_slot *slot = &pool->slots[where / pool->stride_bytes];
    const struct sri_note *note = note_for(&pool->protection->notes[slot->index], offset);
    put_touch(text, trap);
    put(text, ": buffer ");
    put_hex(text, slot->handle);
    put(text, ", byte ");
    put_decimal(text, offset);
    put(text, " of ");
    put_decimal(text, pool->size_bytes);
    put(text, ", address ");
    put_hex(text, trap->address);
    put(text, "\n");
    if (note != NULL) {
        put_note(text, note, trap->now_ns);
    } else if (!trap->memory_failed) {
        put(text, "safering: to which operation is not known\n");
    }
}

/* Runs in a signal handler. */
static bool report(const struct sri_trap *trap) {
    struct text text = {.count = 0};
    atomic_fetch_add(&readers, 1);
    const sr_pool *pool = pool_at(trap->address);
    /* What a forked child has at these addresses is its own. */
    if (pool != NULL && !sri_pool_is_forked(pool)) {
        put_report(&text, pool, trap);
    }
    atomic_fetch_sub(&readers, 1);
    sri_trap_say(text.bytes, text.count);
    return text.count > 0;
}

int sr_guard_install_fault_handler(void) {
    return sri_trap_install(report);
}
