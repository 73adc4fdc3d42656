/* SPDX-License-Identifier: MIT */
#include "sys/owner.h"

#include <errno.h>
#include <pthread.h>
#include <safering/buffer.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

/*
 * A thread that has a key. It holds the robust mutex as long as it lives, so the kernel itself says
 * when it has ended: after its last destructor, and also if it ends by a bare exit system call.
 * Records of ended threads are used again, so there are never more than threads were alive at once.
 */
struct owner_record {
    pthread_mutex_t life;
    uint64_t key;
    struct owner_record *next;
};

__thread uint64_t sri_owner_token __attribute__((tls_model("initial-exec")));
_Alignas(SRI_OWNER_PAGE_BYTES) volatile uint64_t
    sri_owner_page[SRI_OWNER_PAGE_BYTES / sizeof(uint64_t)];

/* Inherited by a child, unlike the page: tells which era the child must not use again. */
static uint64_t era_last;
static bool process_ready;
static _Atomic uint64_t token_last;
static pthread_mutex_t records_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct owner_record *records;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void begin_era(void) {
    sri_owner_page[0] = ++era_last << SRI_OWNER_ERA_SHIFT;
}

/* First thing in a child: its only thread is this one, whatever the parent's threads held or did.
 */
static void child_begins(void) {
    records = NULL; /* their memory stays with the child: after a fork it cannot be freed safely */
    sri_owner_token = 0;
    begin_era();
}

static void before_fork(void) {
    pthread_mutex_lock(&records_mutex);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&records_mutex);
}

static void after_fork_in_child(void) {
    pthread_mutex_unlock(&records_mutex);
    child_begins();
}

static void process_begins(void) {
    /* In the place of the library's own zero page: the kernel wipes anonymous mappings only, and
     * whether .bss is one is the loader's choice. */
    void *page = mmap((void *)(uintptr_t)sri_owner_page, SRI_OWNER_PAGE_BYTES,
                      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (page == MAP_FAILED || madvise(page, SRI_OWNER_PAGE_BYTES, MADV_WIPEONFORK) != 0 ||
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0) {
        return; /* no key can be made: every create call fails */
    }
    begin_era();
    process_ready = true;
}

/* Whether the thread of a record has ended; if so the caller holds its mutex now. */
static bool record_take_over(struct owner_record *record) {
    int code = pthread_mutex_trylock(&record->life);
    SR_CHECK(code == 0 || code == EBUSY || code == EOWNERDEAD);
    if (code == EOWNERDEAD) {
        code = pthread_mutex_consistent(&record->life);
    }
    return code == 0;
}

static struct owner_record *record_create(void) {
    pthread_mutexattr_t attributes;
    struct owner_record *record = calloc(1, sizeof *record);
    if (record == NULL) {
        return NULL;
    }
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&record->life, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_mutex_lock(&record->life); /* until the thread ends */
    return record;
}

/* Makes the calling thread known under @key, in the record of an ended thread or in a new one. */
static bool record_thread(uint64_t key) {
    struct owner_record *record = NULL;
    pthread_mutex_lock(&records_mutex);
    for (record = records; record != NULL && !record_take_over(record); record = record->next) {
    }
    if (record != NULL) {
        record->key = key;
    }
    pthread_mutex_unlock(&records_mutex);
    if (record != NULL) {
        return true;
    }
    record = record_create();
    if (record == NULL) {
        return false;
    }
    record->key = key;
    pthread_mutex_lock(&records_mutex);
    record->next = records;
    records = record;
    pthread_mutex_unlock(&records_mutex);
    return true;
}

uint64_t sri_owner_key_make(void) {
    pthread_once(&process_once, process_begins);
    if (!process_ready) {
        return 0;
    }
    if (sri_owner_era() == 0) {
        child_begins(); /* made by a bare clone(2), which runs no fork handlers */
    }
    if (sri_owner_token == 0) {
        const uint64_t token = atomic_fetch_add(&token_last, 1) + 1;
        if (!record_thread(sri_owner_era() + token)) {
            return 0;
        }
        sri_owner_token = token;
    }
    return sri_owner_key();
}

bool sri_owner_is_forked(uint64_t key) {
    return (key >> SRI_OWNER_ERA_SHIFT) != (sri_owner_era() >> SRI_OWNER_ERA_SHIFT);
}

int sri_owner_error(uint64_t key) {
    return sri_owner_is_forked(key) ? SR_E_FORKED : SR_E_WRONG_THREAD;
}

bool sri_owner_is_alive(uint64_t key) {
    bool alive = false;
    pthread_mutex_lock(&records_mutex);
    for (struct owner_record *record = records; record != NULL; record = record->next) {
        if (record->key != key) {
            continue;
        }
        alive = key == sri_owner_key() || !record_take_over(record);
        if (!alive) {
            record->key = 0; /* for the next thread to take */
            pthread_mutex_unlock(&record->life);
        }
        break;
    }
    pthread_mutex_unlock(&records_mutex);
    return alive;
}

sr_thread sr_thread_self(void) {
    return (sr_thread){sri_owner_key_make()};
}
