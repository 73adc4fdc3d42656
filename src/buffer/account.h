/* SPDX-License-Identifier: MIT */
/*
 * Accounts: who holds how many bytes of a pool, by 32-bit tag, with optional limits. An account
 * that was used once keeps its place; account 0 is always there.
 */
#ifndef SAFERING_BUFFER_ACCOUNT_H
#define SAFERING_BUFFER_ACCOUNT_H

#include "core/index.h"

struct sri_account {
    uint64_t bytes;
    uint64_t limit_bytes;
};

struct sri_accounts {
    struct sri_account *list;
    struct sri_index index; /* tag to place in the list */
    uint32_t count;
    uint32_t count_max;
};

/* Returns 0 or -ENOMEM. */
int sri_accounts_init(struct sri_accounts *accounts, uint32_t count_max, uint64_t seed);
void sri_accounts_deinit(struct sri_accounts *accounts);

/* Place of @tag, opened if new; SRI_INDEX_NONE if there is no room for another. */
uint32_t sri_accounts_open(struct sri_accounts *accounts, uint32_t tag);
/* Place of @tag, or SRI_INDEX_NONE. */
uint32_t sri_accounts_find(const struct sri_accounts *accounts, uint32_t tag);

/* False if the limit would be passed. */
static inline bool sri_account_charge(struct sri_accounts *accounts, uint32_t place,
                                      uint64_t bytes) {
    struct sri_account *account = &accounts->list[place];
    if (SRI_UNLIKELY(account->bytes + bytes > account->limit_bytes)) {
        return false;
    }
    account->bytes += bytes;
    return true;
}

static inline void sri_account_credit(struct sri_accounts *accounts, uint32_t place,
                                      uint64_t bytes) {
    SR_CHECK(accounts->list[place].bytes >= bytes);
    accounts->list[place].bytes -= bytes;
}

#endif
