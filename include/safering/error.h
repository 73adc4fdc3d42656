/* SPDX-License-Identifier: MIT */
/*
 * Error codes. A call that can fail returns 0 or a documented count, or a negative code. Codes of
 * the kernel keep their value (-EAGAIN); the library's own lie below -4095, the kernel's last
 * errno, so one int carries both. There is no errno and no thread-local error state.
 */
#ifndef SAFERING_ERROR_H
#define SAFERING_ERROR_H

#include <safering/export.h>

SR_EXTERN_C_BEGIN

enum sr_error {
    /** The handle names nothing alive in this object: stale, foreign, forged, none, or of another
       kind. */
    SR_E_STALE = -4096,
    /** The object pointer is NULL or does not point to an object of this kind. */
    SR_E_OBJECT = -4097,
    /** The calling thread does not own the object. */
    SR_E_WRONG_THREAD = -4098,
    /** The object was made before fork() and this is the child. */
    SR_E_FORKED = -4099,
    /** The object is in a state in which this call is not allowed (closing, inside a callback,
       attached). */
    SR_E_STATE = -4100,
    /** Operations are in flight on the object, or the kernel may still write to it. */
    SR_E_IN_FLIGHT = -4101,
    /** A range, size, index or alignment is outside of what the object allows. */
    SR_E_BOUNDS = -4102,
    /** The range overlaps one that is lent to the kernel in a way that forbids this. */
    SR_E_LENT = -4103,
    /** No room now: no free buffer, operation or file slot. Expected; not misuse. */
    SR_E_FULL = -4104,
    /** The account's byte limit would be passed. Expected; not misuse. */
    SR_E_LIMIT = -4105,
    /** Kernel or build lacks what was asked. */
    SR_E_UNSUPPORTED = -4106,
    /** The time given has passed. */
    SR_E_TIMEOUT = -4107,
    /** Waiting would never end: nothing is in flight. */
    SR_E_IDLE = -4108,
    /** The bytes around a buffer were overwritten: a canary is broken. */
    SR_E_OVERRUN = -4109,
    /** The process at the other end is gone. */
    SR_E_PEER_DIED = -4110,
    /** The nodes of a batch depend on each other in a circle. */
    SR_E_CYCLE = -4111,
    /** Fewer bytes were transferred than were asked for in full: end of file or of the stream. */
    SR_E_SHORT = -4112,
    /** The other process wrote what no honest peer writes. It is not trusted any further. */
    SR_E_PROTOCOL = -4113,
    /** The workers of the service have died too often; it waits for a reload. */
    SR_E_WORKER_DOWN = -4114
};

/**
 * sr_strerror() - one sentence for a code of the library or of the kernel
 * @code:  any int, as returned by a call or found in a completion
 *
 * Return:  a static string, never NULL.
 * Thread:  any.     Blocks: never.
 */
SR_API const char *sr_strerror(int code);

/**
 * sr_error_name() - the symbolic name of a code: "SR_E_STALE", "EAGAIN"
 * @code:  any int
 *
 * Return:  a static string, never NULL; "OK" for codes >= 0, "UNKNOWN" for codes nobody defines.
 * Thread:  any.     Blocks: never.
 */
SR_API const char *sr_error_name(int code);

SR_EXTERN_C_END

#endif
