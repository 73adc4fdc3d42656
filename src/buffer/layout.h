/* SPDX-License-Identifier: MIT */
/*
 * Layout: the memory of a pool, how far its buffers lie apart, and the guard that is possible
 * there. The guard decides the distance (canaries, whole pages), and the region decides the guard.
 */
#ifndef SAFERING_BUFFER_LAYOUT_H
#define SAFERING_BUFFER_LAYOUT_H

#include "buffer/pool.h"

/* Whether the buffers that @options ask for fit into a region of any size. */
bool sri_layout_fits(const sr_pool_options *options);

/* Gives a pool whose slots are allocated its memory: @region, or with NULL one of its own. Returns
 * 0, SR_E_STATE, SR_E_BOUNDS, -ENOMEM or why memory could not be mapped. */
int sri_layout_begin(sr_pool *pool, sr_region *region, const sr_pool_options *options);
void sri_layout_end(sr_pool *pool);

#endif
