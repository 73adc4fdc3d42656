/* SPDX-License-Identifier: MIT */
#include "conformance/table.h"

static const struct {
    const struct row *rows;
    const size_t *count;
} parts[] = {
    {rows_transfers, &rows_transfers_count}, {rows_files, &rows_files_count},
    {rows_paths, &rows_paths_count},         {rows_sockets, &rows_sockets_count},
    {rows_messages, &rows_messages_count},   {rows_waits, &rows_waits_count},
};

const struct row *table_row(size_t index) {
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (index < *parts[i].count) {
            return &parts[i].rows[index];
        }
        index -= *parts[i].count;
    }
    return NULL;
}

const char *table_column_name(enum column column) {
    static const char *const names[COLUMNS] = {
        [WORKS] = "works",         [FAILS] = "fails",       [SHORT] = "short",
        [CANCELLED] = "cancelled", [DEADLINE] = "deadline",
    };
    return names[column];
}
