/* SPDX-License-Identifier: MIT */
/*
 * A lifecycle is one small table: for each state the set of states that may follow. A move that the
 * table does not have is a broken promise of ours.
 */
#ifndef SAFERING_CORE_STATE_H
#define SAFERING_CORE_STATE_H

#include "core/check.h"
#include <stdint.h>

#define SRI_STATE_BIT(state) ((uint8_t)(1u << (state)))

/* @followers: for each state, the bits of the states that may follow it. */
static inline void sri_state_move(uint8_t *state, const uint8_t *followers, uint8_t to) {
    SR_CHECK((followers[*state] & SRI_STATE_BIT(to)) != 0);
    *state = to;
}

#endif
