/* SPDX-License-Identifier: MIT */
/*
 * safering: io_uring made safe without making it slow.
 *
 * Argument order everywhere: object, inputs (a length right after its array), options, outputs
 * `out_*` last; a callback travels with its `void *ctx`. Ownership words (borrows, lends, takes,
 * copies, returns owned, returns borrowed) have the meanings given in docs/LIFETIMES.md.
 */
#ifndef SAFERING_SAFERING_H
#define SAFERING_SAFERING_H

#include <safering/batch.h>
#include <safering/buffer.h>
#include <safering/buffer_ring.h>
#include <safering/error.h>
#include <safering/export.h>
#include <safering/handle.h>
#include <safering/hooks.h>
#include <safering/ipc.h>
#include <safering/proxy.h>
#include <safering/ring.h>
#include <safering/sandbox.h>
#include <safering/supervisor.h>
#include <safering/version.h>

#endif
