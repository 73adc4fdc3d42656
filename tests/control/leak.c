/* SPDX-License-Identifier: MIT */
/* Loses memory in a Criterion case that passes: a run must fail all the same. See must_report. */
#include <criterion/criterion.h>
#include <stdlib.h>

Test(control, loses_memory)
{
    char *volatile memory = malloc(77);

    cr_assert_not_null(memory);
    memory[0] = 1;
    memory = NULL;
}
