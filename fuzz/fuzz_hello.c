/* SPDX-License-Identifier: MIT */
/* What a worker says first: any bytes are refused, or are a table in which each name finds its
 * number. */
#include "fuzz.h"
#include "ipc/hello.h"

static void check_table(const struct sri_hello *hello) {
    uint16_t number = 0;
    for (const uint8_t *at = hello->bytes; at < hello->bytes + hello->size_bytes; at += 1 + at[0]) {
        char name[SRI_METHOD_NAME_MAX + 1] = {0};
        memcpy(name, at + 1, at[0]);
        MUST(sri_method_name_is_valid(name, at[0]));
        MUST(sri_hello_find(hello, name) == number);
        number++;
    }
    MUST(number == hello->method_count);
    MUST(sri_hello_find(hello, "no such method: spaces are not allowed") == SRI_METHOD_NOT_KNOWN);
}

/* What is written from the names of a table is that table. */
static void check_round_trip(const struct sri_hello *hello) {
    uint8_t *bytes = malloc(hello->size_bytes + 1u);
    size_t size = 0;
    MUST(bytes != NULL);
    for (const uint8_t *at = hello->bytes; at < hello->bytes + hello->size_bytes; at += 1 + at[0]) {
        char name[SRI_METHOD_NAME_MAX + 1] = {0};
        memcpy(name, at + 1, at[0]);
        const size_t count = sri_hello_append(bytes + size, hello->size_bytes - size, name);
        MUST(count == 1u + at[0]);
        size += count;
    }
    MUST(size == hello->size_bytes && memcmp(bytes, hello->bytes, size) == 0);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct sri_hello hello;
    uint8_t *bytes =
        malloc(size + (size == 0)); /* no byte more, so that one read too far is seen */
    MUST(bytes != NULL);
    memcpy(bytes, data, size);
    const int code = sri_hello_check(bytes, size, &hello);
    MUST(code == 0 || code == SR_E_PROTOCOL);
    if (code == 0) {
        MUST(hello.size_bytes == size);
        check_table(&hello);
        check_round_trip(&hello);
    } else {
        MUST(hello.bytes == NULL && hello.method_count == 0);
    }
    free(bytes);
    return 0;
}
