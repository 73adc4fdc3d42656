/* SPDX-License-Identifier: MIT */
/* The table of outcomes itself: nothing is missing, and what it says of differences is what the
 * document says. */
#include "conformance/table.h"

TestSuite(table, .timeout = 60);

static void check_cell(const struct row *row, enum column column) {
    const struct cell *cell = &row->cells[column];
    const bool plays = cell->prepare != NULL;
    const char *name = table_column_name(column);
    cr_assert(plays != (cell->never != NULL), "%s, %s: neither played nor said to be impossible",
              row->name, name);
    cr_assert(!plays || (cell->refused != 0) != (cell->results.count > 0),
              "%s, %s: no outcome, or two", row->name, name);
    const bool has_several = cell->results.count > 1 && !cell->results.is_range;
    cr_assert_eq(has_several, cell->several != NULL, "%s, %s: several results need a reason",
                 row->name, name);
    cr_assert_eq(cell->on_fallback.count > 0, cell->differs != NULL,
                 "%s, %s: a difference needs its place in docs/KERNEL.md", row->name, name);
}

Test(table, has_every_operation_and_every_end_of_it) {
    uint32_t rows_of[SR_OP_COUNT] = {0};
    const struct row *row = NULL;
    for (size_t i = 0; (row = table_row(i)) != NULL; i++) {
        cr_assert_lt(row->op, SR_OP_COUNT);
        cr_assert_not_null(row->name, "a row of operation %u has no name", row->op);
        rows_of[row->op]++;
        for (int column = 0; column < COLUMNS; column++) {
            check_cell(row, (enum column)column);
        }
    }
    for (uint32_t op = 0; op < SR_OP_COUNT; op++) {
        cr_assert_gt(rows_of[op], 0, "operation %u has no row", op);
    }
}

/* The text of docs/KERNEL.md. Skips where the sources cannot be read. */
static const char *read_document(void) {
    static char text[128 * 1024];
    char path[512];
    const char *slash = strrchr(__FILE__, '/');
    cr_assert_not_null(slash);
    (void)snprintf(path, sizeof path, "%.*s/../../docs/KERNEL.md", (int)(slash - __FILE__),
                   __FILE__);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        cr_skip_test("not readable: %s", path);
    }
    const size_t length = fread(text, 1, sizeof text - 1, file);
    cr_assert(feof(file) && length > 0, "%s is larger than this test thinks", path);
    (void)fclose(file);
    text[length] = '\0';
    return text;
}

Test(table, quotes_the_document_where_the_backends_differ) {
    const char *text = read_document();
    const struct row *row = NULL;
    for (size_t i = 0; (row = table_row(i)) != NULL; i++) {
        for (int column = 0; column < COLUMNS; column++) {
            const char *differs = row->cells[column].differs;
            cr_assert(differs == NULL || strstr(text, differs) != NULL,
                      "%s: docs/KERNEL.md does not say \"%s\"", row->name, differs);
        }
    }
}
