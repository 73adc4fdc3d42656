/* SPDX-License-Identifier: MIT */
#include "batch/spec.h"

#include "ring/request.h"
#include "sys/memory.h"

#include <errno.h>
#include <sys/stat.h>

#define TAKES_BUFFER ((unsigned int)(SRI_NEEDS_READER | SRI_NEEDS_WRITER))

static unsigned int needs_of(uint16_t opcode) {
    return sri_opcode_specs[opcode].needs;
}

bool sri_spec_uses_buffer(uint16_t opcode) {
    const unsigned int needs = needs_of(opcode);
    return (needs & TAKES_BUFFER) != 0 && (needs & SRI_NEEDS_SLICES) == 0;
}

uint64_t sri_spec_asked(const sr_request *request) {
    uint64_t bytes = 0;
    if ((needs_of(request->op) & SRI_NEEDS_SLICES) == 0) {
        return request->length;
    }
    for (uint32_t i = 0; i < request->slice_count; i++) {
        bytes += request->slices[i].length_bytes;
    }
    return bytes;
}

/* ---- checks ----------------------------------------------------------------------------------
 */

static int check_pool(const sr_batch *batch, const sr_node_spec *given) {
    if (given->pool == NULL) {
        return given->pool_bytes == 0 ? 0 : -EINVAL;
    }
    if (!sri_pool_is_valid(given->pool)) {
        return SR_E_OBJECT;
    }
    if (given->pool->owner_key != batch->owner_key) {
        return SR_E_WRONG_THREAD;
    }
    const bool fits = given->pool_bytes <= given->pool->size_bytes;
    return fits && given->buffer_from.bits == 0 && sri_spec_uses_buffer(given->request.op)
               ? 0
               : -EINVAL;
}

int sri_spec_check(const sr_batch *batch, const sr_node_spec *given) {
    const sr_request *request = &given->request;
    struct sri_plan plan = {.request = request};
    if ((given->flags & ~(uint32_t)SR_NODE_CLEANUP) != 0 || given->reserved != 0 ||
        request->size != sizeof *request || request->op >= SR_OP_COUNT ||
        (request->flags & SR_REQUEST_MULTISHOT) != 0 || request->buffer_ring != NULL ||
        request->on_complete != NULL) {
        return -EINVAL;
    }
    const int code = sri_request_check_words(sri_batch_ring(batch), &plan);
    return code == 0 ? check_pool(batch, given) : code;
}

/* What an argument is good for. */
static bool takes(const sr_request *request, enum sri_argument argument) {
    const unsigned int needs = needs_of(request->op);
    switch (argument) {
    case SRI_ARGUMENT_FILE:
        return (needs & (SRI_NEEDS_FILE | SRI_NEEDS_DIR)) != 0;
    case SRI_ARGUMENT_NEW_DIR:
        return (needs & SRI_NEEDS_NEW_DIR) != 0;
    case SRI_ARGUMENT_OTHER:
        return (needs & SRI_NEEDS_OTHER) != 0;
    case SRI_ARGUMENT_BUFFER:
        return sri_spec_uses_buffer(request->op);
    default:
        switch (request->op) {
        case SR_OP_SYNC_RANGE:
        case SR_OP_FALLOCATE:
        case SR_OP_FTRUNCATE:
        case SR_OP_FADVISE:
        case SR_OP_SPLICE:
        case SR_OP_TEE:
            return true;
        default:
            return sri_spec_uses_buffer(request->op);
        }
    }
}

static bool brings(const struct sri_node *node, enum sri_argument argument) {
    const unsigned int needs = needs_of(node->opcode);
    switch (argument) {
    case SRI_ARGUMENT_LENGTH:
        return (needs & SRI_TRANSFERS) != 0 || node->measures_file;
    case SRI_ARGUMENT_BUFFER:
        return node->buffer_root != SRI_NODE_NONE;
    default:
        return (needs & SRI_BRINGS_FILE) != 0;
    }
}

int sri_spec_find_arguments(const sr_batch *batch, const sr_node_spec *given,
                            uint32_t *out_arguments) {
    const sr_node *const named[SRI_ARGUMENTS] = {
        [SRI_ARGUMENT_FILE] = &given->file_from,     [SRI_ARGUMENT_NEW_DIR] = &given->new_dir_from,
        [SRI_ARGUMENT_OTHER] = &given->other_from,   [SRI_ARGUMENT_LENGTH] = &given->length_from,
        [SRI_ARGUMENT_BUFFER] = &given->buffer_from,
    };
    for (uint32_t i = 0; i < SRI_ARGUMENTS; i++) {
        out_arguments[i] = SRI_NODE_NONE;
        if (named[i]->bits == 0) {
            continue;
        }
        const struct sri_node *node = sri_node_find(&batch->nodes, named[i]->bits);
        if (node == NULL) {
            return SR_E_STALE;
        }
        if (!takes(&given->request, (enum sri_argument)i) || !brings(node, (enum sri_argument)i)) {
            return -EINVAL;
        }
        out_arguments[i] = node->index;
    }
    return 0;
}

/* ---- copy ------------------------------------------------------------------------------------
 */

/* Where the next piece goes; with memory NULL they are only counted. */
struct packer {
    char *memory;
    size_t used;
};

static const void *pack(struct packer *packer, const void *bytes, size_t size, size_t alignment) {
    packer->used = (packer->used + alignment - 1) & ~(alignment - 1);
    char *place = packer->memory != NULL ? packer->memory + packer->used : NULL;
    packer->used += size;
    return place != NULL ? memcpy(place, bytes, size) : NULL;
}

/* What an opcode does not use is not looked at: it may be anything. */
static void pack_request(struct packer *packer, const sr_request *given, sr_request *copy) {
    const unsigned int needs = needs_of(given->op);
    const bool sends = given->op == SR_OP_SENDMSG;
    copy->slices = NULL;
    copy->address = NULL;
    copy->descriptors = NULL;
    copy->path = NULL;
    copy->new_path = NULL;
    if ((needs & SRI_NEEDS_SLICES) != 0) {
        copy->slices = pack(packer, given->slices, given->slice_count * sizeof *given->slices,
                            _Alignof(sr_slice));
    }
    if ((needs & SRI_NEEDS_MESSAGE) != 0 && given->address != NULL &&
        (sends || given->op == SR_OP_BIND || given->op == SR_OP_CONNECT)) {
        copy->address =
            pack(packer, given->address, given->address_bytes, _Alignof(struct sockaddr_storage));
    }
    if (sends && given->descriptor_count > 0) {
        copy->descriptors =
            pack(packer, given->descriptors, given->descriptor_count * sizeof(int), _Alignof(int));
    }
    if ((needs & SRI_NEEDS_PATH) != 0) {
        copy->path = pack(packer, given->path, strlen(given->path) + 1, 1);
    }
    if ((needs & SRI_NEEDS_NEW_PATH) != 0) {
        copy->new_path = pack(packer, given->new_path, strlen(given->new_path) + 1, 1);
    }
}

struct sri_node_spec *sri_spec_copy(const sr_node_spec *given) {
    sr_request ignored = given->request;
    struct packer packer = {NULL, sizeof(struct sri_node_spec)};
    pack_request(&packer, &given->request, &ignored);
    struct sri_node_spec *spec = sri_allocate(1, packer.used);
    if (spec == NULL) {
        return NULL;
    }
    packer = (struct packer){(char *)spec, sizeof *spec};
    spec->request = given->request;
    pack_request(&packer, &given->request, &spec->request);
    spec->pool = given->pool;
    spec->pool_bytes = given->pool_bytes;
    return spec;
}
