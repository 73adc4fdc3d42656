/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <safering/error.h>
#include <safering/version.h>
#include <stddef.h>
#include <string.h>

static const struct {
    int code;
    const char *name;
    const char *text;
} own_errors[] = {
    {SR_E_STALE, "SR_E_STALE", "handle is stale, foreign, forged, none or of another kind"},
    {SR_E_OBJECT, "SR_E_OBJECT", "pointer is NULL or not an object of this kind"},
    {SR_E_WRONG_THREAD, "SR_E_WRONG_THREAD", "calling thread does not own the object"},
    {SR_E_FORKED, "SR_E_FORKED", "object belongs to the parent process"},
    {SR_E_STATE, "SR_E_STATE", "call is not allowed in the object's state"},
    {SR_E_IN_FLIGHT, "SR_E_IN_FLIGHT", "operations are still in flight"},
    {SR_E_BOUNDS, "SR_E_BOUNDS", "range, size or alignment out of bounds"},
    {SR_E_LENT, "SR_E_LENT", "range is lent to the kernel"},
    {SR_E_FULL, "SR_E_FULL", "no room now"},
    {SR_E_LIMIT, "SR_E_LIMIT", "account limit reached"},
    {SR_E_UNSUPPORTED, "SR_E_UNSUPPORTED", "not supported by this kernel or build"},
    {SR_E_TIMEOUT, "SR_E_TIMEOUT", "time is over"},
    {SR_E_IDLE, "SR_E_IDLE", "nothing is in flight"},
    {SR_E_OVERRUN, "SR_E_OVERRUN", "bytes around the buffer were overwritten"},
    {SR_E_PEER_DIED, "SR_E_PEER_DIED", "process at the other end is gone"},
    {SR_E_CYCLE, "SR_E_CYCLE", "nodes depend on each other in a circle"},
    {SR_E_SHORT, "SR_E_SHORT", "fewer bytes than were asked for in full"},
    {SR_E_PROTOCOL, "SR_E_PROTOCOL", "the other process broke the protocol"},
    {SR_E_WORKER_DOWN, "SR_E_WORKER_DOWN", "workers of the service died too often"},
};

const char *sr_strerror(int code) {
    if (code >= 0) {
        return "success";
    }
    for (size_t i = 0; i < sizeof own_errors / sizeof own_errors[0]; i++) {
        if (own_errors[i].code == code) {
            return own_errors[i].text;
        }
    }
    /* Not strerror(): its buffer is shared between threads and it translates. */
    const char *text = code > -4096 ? strerrordesc_np(-code) : NULL;
    return text != NULL ? text : "unknown error";
}

const char *sr_error_name(int code) {
    if (code >= 0) {
        return "OK";
    }
    for (size_t i = 0; i < sizeof own_errors / sizeof own_errors[0]; i++) {
        if (own_errors[i].code == code) {
            return own_errors[i].name;
        }
    }
    const char *name = code > -4096 ? strerrorname_np(-code) : NULL;
    return name != NULL ? name : "UNKNOWN";
}

uint32_t sr_version(void) {
    return (SR_VERSION_MAJOR << 16) | (SR_VERSION_MINOR << 8) | SR_VERSION_PATCH;
}
