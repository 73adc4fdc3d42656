/* SPDX-License-Identifier: MIT */
#include "support/batch_maker.h"

#include <errno.h>
#include <safering/batch.h>
#include <stdlib.h>

#define EDGES_MAX 64u /* of one node */

static void *grow(void *memory, size_t size_bytes) {
    void *larger = realloc(memory, size_bytes);
    if (larger == NULL) {
        perror("batch_maker");
        abort();
    }
    return larger;
}

enum shape {
    SHAPE_RANDOM,
    SHAPE_CHAINS,
    SHAPE_DIAMONDS,
    SHAPE_FANS,
    SHAPE_LATTICE,
    SHAPE_FLAT,
    SHAPES
};

/* What the generator knows of a node while it makes the graph. */
struct note {
    uint32_t root;      /* whose buffer it uses; BATCH_NONE: none */
    uint32_t last_fill; /* of a root: the last node that writes into the buffer */
    bool is_closed;     /* of an open: a CLOSE takes its file */
};

struct maker {
    struct batch_graph *graph;
    const struct batch_maker_plan *plan;
    struct scale_random *random;
    struct note *notes;
    enum shape shape;
    uint32_t width;
    uint32_t base_count;
    struct batch_edge pending[EDGES_MAX]; /* of the node being made */
    uint32_t pending_count;
};

static uint32_t below(struct maker *maker, uint64_t limit) {
    return (uint32_t)scale_random_below(maker->random, limit);
}

static bool percent(struct maker *maker, uint32_t share) {
    return below(maker, 100) < share;
}

static bool is_pending(const struct maker *maker, uint32_t dependency) {
    for (uint32_t i = 0; i < maker->pending_count; i++) {
        if (maker->pending[i].dependency == dependency) {
            return true;
        }
    }
    return false;
}

/* Whether node @self may depend on @other: one that is added from a callback knows those before the
 * start, the node of the callback, and what was added there before. */
static bool is_visible(const struct maker *maker, uint32_t self, uint32_t other) {
    const uint32_t adder = maker->graph->nodes[self].added_by;
    const uint32_t other_adder = maker->graph->nodes[other].added_by;
    if (other == adder || other_adder == adder) {
        return true;
    }
    return other_adder == BATCH_NONE && !maker->plan->forgets;
}

static uint32_t random_when(struct maker *maker) {
    const uint32_t dice = below(maker, 100);
    return dice < 45 ? SR_ON_SUCCESS : dice < 55 ? SR_ON_FAILURE : SR_ALWAYS;
}

static void depend(struct maker *maker, uint32_t self, uint32_t dependency, uint32_t when) {
    if (maker->pending_count < EDGES_MAX && is_visible(maker, self, dependency)) {
        maker->pending[maker->pending_count++] = (struct batch_edge){dependency, when};
    }
}

/* ---- shapes */

static void depend_random(struct maker *maker, uint32_t self) {
    const uint32_t count = below(maker, 4);
    for (uint32_t i = 0; i < count && self > 0; i++) {
        const uint32_t reach = percent(maker, 50) && self > 8 ? 8 : self;
        depend(maker, self, self - 1 - below(maker, reach), random_when(maker));
    }
}

static void depend_on_layer(struct maker *maker, uint32_t self, uint32_t count) {
    const uint32_t layer = self / maker->width;
    for (uint32_t i = 0; i < count && layer > 0; i++) {
        const uint32_t place = (self + i) % maker->width;
        depend(maker, self, (layer - 1) * maker->width + place, random_when(maker));
    }
}

/* One head, width - 2 in the middle, one tail; the tail is the head of the next. */
static void depend_diamond(struct maker *maker, uint32_t self) {
    const uint32_t place = self % maker->width;
    const uint32_t head = self - place;
    if (place > 0 && place < maker->width - 1) {
        depend(maker, self, head, random_when(maker));
    }
    for (uint32_t middle = head + 1; place == maker->width - 1 && middle < self; middle++) {
        depend(maker, self, middle, random_when(maker));
    }
    if (place == 0 && head > 0) {
        depend(maker, self, head - 1, random_when(maker));
    }
}

static void depend_fan(struct maker *maker, uint32_t self) {
    if (self % maker->width == 0) {
        for (uint32_t i = 1; i < maker->width && i <= self; i++) {
            depend(maker, self, self - i, random_when(maker));
        }
    } else {
        depend(maker, self, self - self % maker->width, random_when(maker));
    }
}

static void depend_by_shape(struct maker *maker, uint32_t self) {
    switch (maker->shape) {
    case SHAPE_CHAINS:
        depend_on_layer(maker, self, 1);
        break;
    case SHAPE_DIAMONDS:
        depend_diamond(maker, self);
        break;
    case SHAPE_FANS:
        depend_fan(maker, self);
        break;
    case SHAPE_LATTICE:
        depend_on_layer(maker, self, 1 + below(maker, 3));
        break;
    case SHAPE_FLAT:
        break;
    default:
        depend_random(maker, self);
        break;
    }
}

static void depend_added(struct maker *maker, uint32_t self) {
    const uint32_t adder = maker->graph->nodes[self].added_by;
    const uint32_t count = below(maker, 4);
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t other = percent(maker, 40) ? adder : below(maker, self);
        depend(maker, self, other, random_when(maker));
    }
}

/* ---- work */

/* A node that @fits, near or far; BATCH_NONE after some tries. */
static uint32_t find(struct maker *maker, uint32_t self,
                     bool (*fits)(const struct maker *maker, uint32_t self, uint32_t other)) {
    for (uint32_t i = 0; i < 12 && self > 0; i++) {
        const uint32_t reach = i < 6 && self > 16 ? 16 : self;
        const uint32_t other = self - 1 - below(maker, reach);
        if (is_visible(maker, self, other) && fits(maker, self, other)) {
            return other;
        }
    }
    return BATCH_NONE;
}

static bool fits_open(const struct maker *maker, uint32_t self, uint32_t other) {
    const enum batch_work work = maker->graph->nodes[other].work;
    (void)self;
    return (work == BATCH_OPEN || work == BATCH_OPEN_IN || work == BATCH_OPEN_MISSING) &&
           (!maker->notes[other].is_closed || maker->plan->races);
}

static bool fits_dir(const struct maker *maker, uint32_t self, uint32_t other) {
    (void)self;
    return maker->graph->nodes[other].work == BATCH_OPEN_DIR &&
           (!maker->notes[other].is_closed || maker->plan->races);
}

static bool fits_close(const struct maker *maker, uint32_t self, uint32_t other) {
    return fits_open(maker, self, other) || fits_dir(maker, self, other);
}

static bool fits_length(const struct maker *maker, uint32_t self, uint32_t other) {
    const enum batch_work work = maker->graph->nodes[other].work;
    (void)self;
    return batch_work_transfers(work) || work == BATCH_STATX;
}

/* By the time that a node is added the buffers of others may have gone back to their pool. */
static bool fits_buffer(const struct maker *maker, uint32_t self, uint32_t other) {
    const uint32_t adder = maker->graph->nodes[self].added_by;
    return maker->notes[other].root != BATCH_NONE && (adder == BATCH_NONE || adder == other);
}

static uint32_t random_argument_when(struct maker *maker) {
    const uint32_t dice = below(maker, 20);
    return dice < 10 ? SR_ON_SUCCESS : dice < 19 ? SR_ALWAYS : SR_ON_FAILURE;
}

static void take_argument(struct maker *maker, uint32_t self, uint32_t from) {
    struct batch_node *node = &maker->graph->nodes[self];
    if (is_pending(maker, from)) {
        return;
    }
    if (maker->pending_count == EDGES_MAX) {
        maker->pending_count--; /* the argument matters more */
    }
    if (node->added_by != BATCH_NONE && percent(maker, 3)) {
        return; /* a mistake of the caller: see misses_edge() */
    }
    depend(maker, self, from, random_argument_when(maker));
}

/* Whether @node uses the file that @open brings. */
static bool uses_file(const struct batch_node *node, uint32_t open) {
    return node->file_from == open || node->new_dir_from == open || node->other_from == open;
}

/* A CLOSE comes after all that use the file; false if there are some that it cannot know. */
static bool close_after_users(struct maker *maker, uint32_t self, uint32_t open) {
    for (uint32_t i = open + 1; i < self; i++) {
        if (!uses_file(&maker->graph->nodes[i], open)) {
            continue;
        }
        if (maker->plan->races) {
            maker->graph->nodes[i].is_known = false;
            maker->graph->nodes[self].is_known = false;
        } else if (!is_visible(maker, self, i) || maker->pending_count > EDGES_MAX - 4) {
            return false;
        } else {
            depend(maker, self, i, SR_ALWAYS);
        }
    }
    return true;
}

/* Readers of a buffer do not disturb each other; one that fills it comes after all others, and the
 * others after it. */
static bool order_buffer(struct maker *maker, uint32_t self, uint32_t root, bool fills) {
    struct note *note = &maker->notes[root];
    if (note->last_fill != root && !is_pending(maker, note->last_fill)) {
        if (maker->pending_count > EDGES_MAX - 4 || !is_visible(maker, self, note->last_fill)) {
            return false;
        }
        depend(maker, self, note->last_fill, SR_ALWAYS);
    }
    for (uint32_t i = root + 1; fills && i < self; i++) {
        if (maker->notes[i].root != root) {
            continue;
        }
        if (maker->pending_count > EDGES_MAX - 4 || !is_visible(maker, self, i)) {
            return false;
        }
        if (!is_pending(maker, i)) {
            depend(maker, self, i, SR_ALWAYS);
        }
    }
    if (fills) {
        note->last_fill = self;
    }
    return true;
}

/* In a graph with races nobody keeps order: who comes second may be refused (SR_E_LENT), or reads
 * what another has filled. */
static bool share_buffer(struct maker *maker, uint32_t self, uint32_t from, bool fills) {
    const uint32_t root = maker->notes[from].root;
    if (maker->plan->races) {
        for (uint32_t i = root; i < self; i++) {
            if (maker->notes[i].root == root) {
                maker->graph->nodes[i].is_known = false;
            }
        }
        maker->graph->nodes[self].is_known = false;
    } else if (!order_buffer(maker, self, root, fills)) {
        return false;
    }
    maker->notes[self].root = root;
    return true;
}

static void take_length(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    const uint32_t from = percent(maker, 30) ? find(maker, self, fits_length) : BATCH_NONE;
    if (from != BATCH_NONE) {
        node->length_from = from;
        take_argument(maker, self, from);
    }
}

/* A read somewhere in the data, or around its end. */
static void read_data(struct maker *maker, struct batch_node *node) {
    node->offset = below(maker, BATCH_DATA_BYTES);
    if (percent(maker, 20)) {
        node->offset = BATCH_DATA_BYTES - 100 + below(maker, 200);
    }
    node->length = 1 + below(maker, BATCH_BUFFER_BYTES);
    node->available = node->offset < BATCH_DATA_BYTES ? BATCH_DATA_BYTES - node->offset : 0;
    node->full = percent(maker, 50);
}

static void make_failing(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    switch (below(maker, 3)) {
    case 0:
        node->work = BATCH_READ_WRITE_ONLY;
        node->length = 1 + below(maker, BATCH_BUFFER_BYTES);
        node->code = -EBADF;
        break;
    case 1:
        node->work = BATCH_OPEN_MISSING;
        node->code = -ENOENT;
        break;
    default:
        node->work = BATCH_READ;
        node->offset = BATCH_DATA_BYTES - 50;
        node->available = 50;
        node->length = 51 + below(maker, 400);
        node->full = true;
        maker->notes[self].root = self;
        break;
    }
}

static void make_read(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    node->work = BATCH_READ;
    read_data(maker, node);
    node->from_pool = maker->plan->pools && !node->cleanup && percent(maker, 60);
    maker->notes[self].root = self;
    take_length(maker, self);
}

static bool make_buffer_user(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    const uint32_t from = find(maker, self, fits_buffer);
    const bool fills = percent(maker, 30);
    if (from == BATCH_NONE || !share_buffer(maker, self, from, fills)) {
        return false;
    }
    node->work = fills ? BATCH_REFILL : BATCH_WRITE;
    read_data(maker, node);
    if (!fills) {
        node->available = UINT64_MAX;
        node->full = percent(maker, 30);
        node->offset = (uint64_t)self * BATCH_BUFFER_BYTES;
    }
    node->buffer_from = from;
    take_argument(maker, self, from);
    take_length(maker, self);
    return true;
}

/* A node that takes a file: with @fits from whom, by which argument. */
static bool make_file_user(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    static const enum batch_work choices[] = {BATCH_READ_OPENED, BATCH_READ_OPENED, BATCH_OPEN_IN,
                                              BATCH_RENAME_IN,   BATCH_WATCH,       BATCH_CLOSE,
                                              BATCH_CLOSE,       BATCH_CLOSE};
    const enum batch_work work = choices[below(maker, sizeof choices / sizeof choices[0])];
    const bool wants_dir = work == BATCH_OPEN_IN || work == BATCH_RENAME_IN;
    const uint32_t from = find(maker, self,
                               work == BATCH_CLOSE ? fits_close
                               : wants_dir         ? fits_dir
                                                   : fits_open);
    if (from == BATCH_NONE) {
        return false;
    }
    if (work == BATCH_CLOSE && !close_after_users(maker, self, from)) {
        return false;
    }
    node->work = work;
    *(work == BATCH_RENAME_IN ? &node->new_dir_from
      : work == BATCH_WATCH   ? &node->other_from
                              : &node->file_from) = from;
    node->code = work == BATCH_RENAME_IN ? -ENOENT : work == BATCH_WATCH ? -EPERM : 0;
    take_argument(maker, self, from);
    if (work == BATCH_READ_OPENED) {
        read_data(maker, node);
    }
    node->is_known = node->is_known && !maker->notes[from].is_closed;
    maker->notes[from].is_closed |= work == BATCH_CLOSE;
    return true;
}

static void make_other(struct maker *maker, uint32_t self) {
    static const enum batch_work choices[] = {BATCH_NOP,  BATCH_NOP,      BATCH_NOP,  BATCH_OPEN,
                                              BATCH_OPEN, BATCH_OPEN_DIR, BATCH_STATX};
    struct batch_node *node = &maker->graph->nodes[self];
    node->work = choices[below(maker, sizeof choices / sizeof choices[0])];
}

/* False if there is no node of which it could take what it needs. */
static bool make_work(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    if (percent(maker, maker->plan->percent_pipe)) {
        node->work = BATCH_PIPE;
        node->length = 1;
        node->available = 1;
        return true;
    }
    if (percent(maker, maker->plan->percent_timeout)) {
        node->work = BATCH_TIMEOUT;
        node->duration_ns = 20000 + below(maker, 180000);
        return true;
    }
    if (percent(maker, maker->plan->percent_failing)) {
        make_failing(maker, self);
        return true;
    }
    const uint32_t dice = below(maker, 100);
    if (dice >= 25 && dice < 70) {
        return dice < 45 ? make_buffer_user(maker, self) : make_file_user(maker, self);
    }
    (dice < 25 ? make_read : make_other)(maker, self);
    return true;
}

static void shuffle_pending(struct maker *maker) {
    for (uint32_t i = maker->pending_count; i > 1; i--) {
        const uint32_t j = below(maker, i);
        const struct batch_edge edge = maker->pending[j];
        maker->pending[j] = maker->pending[i - 1];
        maker->pending[i - 1] = edge;
    }
}

/* Whether no edge leads to a node that brings an argument. */
static bool misses_edge(const struct maker *maker, const struct batch_node *node) {
    const uint32_t needed[] = {node->file_from, node->new_dir_from, node->other_from,
                               node->length_from, node->buffer_from};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (needed[i] != BATCH_NONE && !is_pending(maker, needed[i])) {
            return true;
        }
    }
    return false;
}

static void keep_pending(struct maker *maker, uint32_t self) {
    struct batch_graph *graph = maker->graph;
    shuffle_pending(maker);
    if (graph->edge_count + maker->pending_count > graph->edge_room) {
        graph->edge_room = 2 * (graph->edge_room + EDGES_MAX);
        graph->edges = grow(graph->edges, graph->edge_room * sizeof graph->edges[0]);
    }
    graph->nodes[self].edge_at = graph->edge_count;
    graph->nodes[self].edge_count = maker->pending_count;
    graph->nodes[self].misses_edge = misses_edge(maker, &graph->nodes[self]);
    for (uint32_t i = 0; i < maker->pending_count; i++) {
        graph->edges[graph->edge_count + i] = maker->pending[i];
    }
    graph->edge_count += maker->pending_count;
}

static struct batch_node blank_node(void) {
    return (struct batch_node){
        .is_known = true,
        .file_from = BATCH_NONE,
        .new_dir_from = BATCH_NONE,
        .other_from = BATCH_NONE,
        .length_from = BATCH_NONE,
        .buffer_from = BATCH_NONE,
        .added_by = BATCH_NONE,
    };
}

/* The node that adds: one before the start, or one that was added itself. */
static uint32_t random_adder(struct maker *maker, uint32_t self) {
    const uint32_t adder = below(maker, percent(maker, 70) ? maker->base_count : self);
    return maker->graph->nodes[adder].silent ? BATCH_NONE : adder;
}

static void make_node(struct maker *maker, uint32_t self) {
    struct batch_node *node = &maker->graph->nodes[self];
    *node = blank_node();
    maker->notes[self] = (struct note){BATCH_NONE, self, false};
    maker->pending_count = 0;
    if (self >= maker->base_count) {
        node->added_by = random_adder(maker, self);
    }
    node->cleanup = percent(maker, maker->plan->percent_cleanup);
    node->silent = percent(maker, maker->plan->percent_silent);
    if (node->added_by == BATCH_NONE) {
        depend_by_shape(maker, self);
    } else {
        depend_added(maker, self);
    }
    const uint32_t pending_count = maker->pending_count;
    const struct batch_node before = *node;
    if (!make_work(maker, self)) {
        *node = before; /* a NOP */
        maker->notes[self].root = BATCH_NONE;
        maker->pending_count = pending_count;
    }
    if (maker->plan->has_deadlines && percent(maker, 15)) {
        node->deadline_ns = 1000 + below(maker, 300000);
        node->is_known = false;
    }
    keep_pending(maker, self);
}

void batch_make(struct batch_graph *out_graph, const struct batch_maker_plan *plan,
                struct scale_random *random) {
    const uint32_t count = plan->node_count + plan->node_count * plan->percent_added / 100;
    struct maker maker = {.graph = out_graph, .plan = plan, .random = random};
    *out_graph = (struct batch_graph){.node_count = count};
    out_graph->nodes = grow(NULL, (count + 1) * sizeof out_graph->nodes[0]);
    maker.notes = grow(NULL, (count + 1) * sizeof maker.notes[0]);
    maker.shape = (enum shape)below(&maker, SHAPES);
    maker.width = 3 + below(&maker, percent(&maker, 70) ? 6 : 40);
    maker.base_count = plan->node_count;
    for (uint32_t i = 0; i < count; i++) {
        make_node(&maker, i);
    }
    free(maker.notes);
}
