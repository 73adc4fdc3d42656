/* SPDX-License-Identifier: MIT */
/* A library that tests load while they watch what is allowed; it needs no other. */
int sr_test_module_answer(void);

int sr_test_module_answer(void) {
    return 42;
}
