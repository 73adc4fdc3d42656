/* SPDX-License-Identifier: MIT */
#include "ipc/hello.h"

#include <string.h>

bool sri_method_name_is_valid(const char *name, size_t length) {
    if (length < 1 || length > SRI_METHOD_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return false;
        }
    }
    return true;
}

/* The number of the first method below @end with this name. The table is short, and looked at when
 * a worker starts. */
static uint16_t find(const uint8_t *bytes, const uint8_t *end, const char *name, size_t length) {
    uint16_t number = 0;
    for (const uint8_t *at = bytes; at < end; at += 1 + at[0]) {
        if (at[0] == length && memcmp(at + 1, name, length) == 0) {
            return number;
        }
        number++;
    }
    return SRI_METHOD_NOT_KNOWN;
}

int sri_hello_check(const uint8_t *bytes, size_t size_bytes, struct sri_hello *out_hello) {
    uint32_t count = 0;
    *out_hello = (struct sri_hello){0};
    if (size_bytes > SRI_HELLO_BYTES_MAX) {
        return SR_E_PROTOCOL;
    }
    for (size_t at = 0; at < size_bytes; at += 1u + bytes[at]) {
        const size_t length = bytes[at];
        const char *name = (const char *)bytes + at + 1;
        if (length > size_bytes - at - 1 || !sri_method_name_is_valid(name, length) ||
            count == SRI_METHODS_MAX ||
            find(bytes, bytes + at, name, length) != SRI_METHOD_NOT_KNOWN) {
            return SR_E_PROTOCOL;
        }
        count++;
    }
    *out_hello = (struct sri_hello){bytes, (uint32_t)size_bytes, count};
    return 0;
}

uint16_t sri_hello_find(const struct sri_hello *hello, const char *name) {
    return find(hello->bytes, hello->bytes + hello->size_bytes, name, strlen(name));
}

size_t sri_hello_append(uint8_t *bytes, size_t room, const char *name) {
    const size_t length = strnlen(name, SRI_METHOD_NAME_MAX + 1);
    if (!sri_method_name_is_valid(name, length) || room < 1 + length) {
        return 0;
    }
    bytes[0] = (uint8_t)length;
    memcpy(bytes + 1, name, length);
    return 1 + length;
}
