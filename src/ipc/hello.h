/* SPDX-License-Identifier: MIT */
/*
 * Hello: what a worker says first, the table of its methods. On the wire, for each method in the
 * order of their numbers: one byte with the length of its name, the name. Nothing else.
 */
#ifndef SAFERING_IPC_HELLO_H
#define SAFERING_IPC_HELLO_H

#include "core/check.h"

/* What a program may have, and one of the library's own. */
#define SRI_METHODS_MAX 1025u
/* The method that each worker has, behind its own: it does nothing. That it answers shows that the
 * loop which runs methods goes round. */
#define SRI_METHOD_HEARTBEAT "safering.heartbeat"
#define SRI_METHOD_NAME_MAX  63u
#define SRI_HELLO_BYTES_MAX  (SRI_METHODS_MAX * (1u + SRI_METHOD_NAME_MAX))
#define SRI_METHOD_NOT_KNOWN UINT16_MAX

/* A table of methods, as the host keeps it: text owned by whoever called sri_hello_check(). */
struct sri_hello {
    const uint8_t *bytes; /* checked */
    uint32_t size_bytes;
    uint32_t method_count;
};

/* A name is 1 .. 63 printable characters of ASCII without space. */
bool sri_method_name_is_valid(const char *name, size_t length);

/* Checks bytes that a worker sent, and that nobody changes any more. Names are different. Returns 0
 * with *out_hello looking into @bytes, or SR_E_PROTOCOL. */
int sri_hello_check(const uint8_t *bytes, size_t size_bytes, struct sri_hello *out_hello);

/* The number of a method, or SRI_METHOD_NOT_KNOWN. */
uint16_t sri_hello_find(const struct sri_hello *hello, const char *name);

/* Appends one name; @room counts what is left at @bytes. Returns bytes written, 0 if the name is
 * not valid or there is no room. */
size_t sri_hello_append(uint8_t *bytes, size_t room, const char *name);

#endif
