/* SPDX-License-Identifier: MIT */
/*
 * Stream pair: both ends of a stream (ipc/stream.h) and the memory between them, which ends at an
 * inaccessible page, so that an access beyond it is a fault. And messages whose bytes follow from
 * their number, so that whoever gets one can tell whether it is whole.
 */
#ifndef SAFERING_TESTS_SUPPORT_STREAM_PAIR_H
#define SAFERING_TESTS_SUPPORT_STREAM_PAIR_H

#include "ipc/stream.h"
#include "sys/shared.h"

struct stream_pair {
    struct sri_stream_options options;
    struct sri_shared writer_shared;
    struct sri_shared reader_shared;
    struct sri_stream_place place;
    struct sri_stream_writer writer;
    struct sri_stream_reader reader;
};

/* Aborts with a message if the memory cannot be had. @writer_kind: of the memory for the slots. */
void stream_pair_open(struct stream_pair *out_pair, const struct sri_stream_options *options,
                      enum sri_shared_kind writer_kind);
/* Zeroes the memory and makes both ends anew, in the next epoch. */
void stream_pair_again(struct stream_pair *pair);
void stream_pair_close(struct stream_pair *pair);

/* Where the memory of a stream lies in a mapping of either memory: at its end. */
struct sri_stream_place stream_pair_place(const struct sri_stream_options *options,
                                          const struct sri_shared *writer_shared,
                                          const struct sri_shared *reader_shared);

/* The bytes of message @number, if it has @length_bytes. */
void stream_message_fill(void *bytes, uint64_t number, size_t length_bytes);
bool stream_message_is_whole(const void *bytes, uint64_t number, size_t length_bytes);

#endif
