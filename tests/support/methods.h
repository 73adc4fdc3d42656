/* SPDX-License-Identifier: MIT */
/* Methods: what the workers of tests serve, whether forked (support/worker.h) or started as a
 * program (programs/serving.c). */
#ifndef SAFERING_TESTS_SUPPORT_METHODS_H
#define SAFERING_TESTS_SUPPORT_METHODS_H

#include <safering/worker.h>

/* What they take and do:
 *   echo      any bytes: answers them; result: how many
 *   add       two int64_t: result: their sum
 *   pause     uint32_t: sleeps so many ms; result: the same
 *   produce   uint64_t: answers so many bytes, byte i is i % 251
 *   tell      uint32_t: sends so many events, number i % 65536 with i as bytes; result: the same
 *   note      uint64_t, as a note: adds it up
 *   sum       result: what notes added up to
 *   refuse    result: INT64_MIN
 *   crash     dies of a SIGSEGV
 *   leave     exit(7)
 */
extern const sr_method test_methods[];
extern const uint32_t test_method_count;

#endif
