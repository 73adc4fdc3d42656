/* SPDX-License-Identifier: MIT */
/* Fuzz: what fuzz targets share: a check that ends the program, and input taken piece by piece. */
#ifndef SAFERING_FUZZ_FUZZ_H
#define SAFERING_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(expression)                                                                           \
    ((expression)                                                                                  \
         ? (void)0                                                                                 \
         : (fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #expression), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
    const uint8_t *data;
    size_t left;
};

/* The next @count bytes as a number, the first one lowest; what is missing is zero. */
static inline uint64_t fuzz_take(struct fuzz_input *input, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count && input->left > 0; i++, input->data++, input->left--) {
        value |= (uint64_t)*input->data << (8 * i);
    }
    return value;
}

#endif
