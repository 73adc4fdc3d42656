/* SPDX-License-Identifier: MIT */
#include "ipc/strings.h"

#include "ipc/launch_wire.h"
#include "sys/memory.h"

uint32_t sri_count_strings(const char *const *list) {
    uint32_t count = 0;
    while (list != NULL && count <= SRI_LAUNCH_STRINGS_MAX && list[count] != NULL) {
        count++;
    }
    return count;
}

const char **sri_copy_strings(const char *first, const char *const *list, const char *last) {
    const char *texts[SRI_LAUNCH_STRINGS_MAX + 2];
    const uint32_t list_count = sri_count_strings(list);
    uint32_t count = 0;
    if (list_count > SRI_LAUNCH_STRINGS_MAX) {
        return NULL;
    }
    if (first != NULL) {
        texts[count++] = first;
    }
    for (uint32_t i = 0; i < list_count; i++) {
        texts[count++] = list[i];
    }
    if (last != NULL) {
        texts[count++] = last;
    }
    size_t size_bytes = (count + 1) * sizeof(char *);
    for (uint32_t i = 0; i < count; i++) {
        size_bytes += strlen(texts[i]) + 1;
    }
    const char **copy = sri_allocate(1, size_bytes);
    if (copy == NULL) {
        return NULL;
    }
    char *text = (char *)(copy + count + 1);
    for (uint32_t i = 0; i < count; i++) {
        const size_t text_bytes = strlen(texts[i]) + 1;
        memcpy(text, texts[i], text_bytes);
        copy[i] = text;
        text += text_bytes;
    }
    return copy;
}
