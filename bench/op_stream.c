/* SPDX-License-Identifier: MIT */
/*
 * Handles come from the library's own table of handles, made and used as src/ring/op.c makes and
 * uses it: no ring could have 65,536 operations end in an order that is drawn.
 */
#include "op_stream.h"
#include "core/handle.h"
#include <stdlib.h>

struct op_handles {
    struct sri_handle_table table;
    void *memory;
};

static void handles_close(struct op_handles *handles) {
    if (handles != NULL) {
        sri_handle_table_deinit(&handles->table);
        free(handles->memory);
        free(handles);
    }
}

static struct op_handles *handles_open(uint32_t n) {
    uint32_t entry_count = sri_handle_entries_for(n);
    struct op_handles *handles = calloc(1, sizeof(*handles));

    if (handles == NULL) {
        return NULL;
    }
    handles->memory = calloc(1, sri_handle_memory_for(entry_count));
    if (handles->memory == NULL ||
        sri_handle_table_init(&handles->table, SRI_KIND_OP, handles->memory, entry_count) != 0) {
        handles_close(handles);
        return NULL;
    }
    return handles;
}

void op_stream_close(struct op_stream *self) {
    handles_close(self->handles);
    free(self->first);
    free(self->flying);
    free(self->steps);
}

int op_stream_open(struct op_stream *self, uint32_t n, const uint64_t *chosen) {
    memset(self, 0, sizeof(*self));
    self->n = n;
    self->chosen = chosen;
    self->first = calloc(n, sizeof(*self->first));
    self->flying = calloc(n, sizeof(*self->flying));
    self->handles = handles_open(n);
    if (self->first == NULL || self->flying == NULL || self->handles == NULL) {
        op_stream_close(self);
        return bench_complain(BENCH_WRONG, "operations to look up: out of memory");
    }
    return BENCH_OK;
}

static int make_room(struct op_stream *self, uint32_t steps) {
    if (steps <= self->steps_max) {
        return BENCH_OK;
    }
    free(self->steps);
    self->steps = calloc(steps, sizeof(*self->steps));
    self->steps_max = self->steps != NULL ? steps : 0;
    return self->steps != NULL
               ? BENCH_OK
               : bench_complain(BENCH_WRONG, "operations to look up: out of memory");
}

/* Which of the operations in flight ends. */
static uint32_t draw(const struct bench_round *round, uint32_t step, uint32_t n) {
    return (uint32_t)(bench_mix(round->base + step) % n);
}

static struct op_entry begin(struct op_stream *self, uint64_t node) {
    uint64_t op = self->chosen != NULL
                      ? self->chosen[node]
                      : sri_handle_acquire(&self->handles->table, SRI_KIND_OP, (uint32_t)node / 2);

    return (struct op_entry){op, node};
}

static void end(struct op_stream *self, uint64_t op) {
    if (self->chosen == NULL) {
        sri_handle_release(&self->handles->table, op);
    }
}

int op_stream_draw(struct op_stream *self, const struct bench_round *round) {
    int status = make_room(self, round->ops);

    if (status != BENCH_OK) {
        return status;
    }
    for (uint32_t i = 0; i < self->n; i++) {
        self->flying[i] = begin(self, 2 * (uint64_t)i);
        self->first[i] = self->flying[i];
    }
    for (uint32_t i = 0; i < round->ops; i++) {
        struct op_entry *place = &self->flying[draw(round, i, self->n)];

        self->steps[i].ended = *place;
        end(self, place->op);
        *place = begin(self, place->node ^ 1u); /* the node that waited, by turns */
        self->steps[i].begun = *place;
        if (place->op == 0) {
            return bench_complain(BENCH_WRONG, "operations to look up: no handle left");
        }
    }
    for (uint32_t i = 0; i < self->n; i++) {
        end(self, self->flying[i].op);
    }
    return BENCH_OK;
}

uint64_t op_stream_expect(const struct bench_setup *setup, const struct bench_round *round) {
    uint8_t *turns = calloc(setup->n, 1);
    uint64_t sum = 0;

    for (uint32_t i = 0; turns != NULL && i < round->ops; i++) {
        uint32_t place = draw(round, i, setup->n);

        sum += op_stream_word(2 * (uint64_t)place + turns[place], i);
        turns[place] ^= 1u;
    }
    free(turns); /* without memory no side can be right */
    return sum;
}
