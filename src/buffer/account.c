/* SPDX-License-Identifier: MIT */
#include "buffer/account.h"

#include "sys/memory.h"

#include <errno.h>

int sri_accounts_init(struct sri_accounts *accounts, uint32_t count_max, uint64_t seed) {
    struct sri_index_cell *cells =
        sri_allocate(sri_index_cells_for(count_max), sizeof(struct sri_index_cell));
    struct sri_account *list = sri_allocate(count_max, sizeof *list);
    if (cells == NULL || list == NULL) {
        sri_release(cells);
        sri_release(list);
        return -ENOMEM;
    }
    *accounts = (struct sri_accounts){.list = list, .count_max = count_max};
    sri_index_init(&accounts->index, cells, count_max, seed);
    SR_CHECK(sri_accounts_open(accounts, 0) == 0);
    return 0;
}

void sri_accounts_deinit(struct sri_accounts *accounts) {
    sri_release(accounts->index.cells);
    sri_release(accounts->list);
    *accounts = (struct sri_accounts){0};
}

uint32_t sri_accounts_find(const struct sri_accounts *accounts, uint32_t tag) {
    return sri_index_find(&accounts->index, tag);
}

uint32_t sri_accounts_open(struct sri_accounts *accounts, uint32_t tag) {
    const uint32_t found = sri_accounts_find(accounts, tag);
    if (found != SRI_INDEX_NONE) {
        return found;
    }
    if (!sri_index_insert(&accounts->index, tag, accounts->count)) {
        return SRI_INDEX_NONE;
    }
    accounts->list[accounts->count] = (struct sri_account){.limit_bytes = UINT64_MAX};
    return accounts->count++;
}
