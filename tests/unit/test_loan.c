/* SPDX-License-Identifier: MIT */
/*
 * The borrow rule, byte by byte: a model counts for each byte of each buffer who has it, and every
 * answer of the library must agree with that.
 */
#include "unit/fixture.h"

#include "buffer/lend.h"
#include "support/scale.h"

#define BUFFERS   6u
#define SIZE      96u
#define LOANS_MAX 40u

struct lent {
    struct sri_loan loan;
    bool in_use;
    uint32_t buffer;
    uint32_t begin;
    uint32_t length;
    bool writer;
};

struct model {
    sr_pool *pool;
    sr_buffer handles[BUFFERS];
    uint8_t readers[BUFFERS][SIZE];
    uint8_t writers[BUFFERS][SIZE];
    uint32_t loan_count[BUFFERS];
    struct lent lents[LOANS_MAX];
    struct scale_random random;
    /* So that a run that tested nothing is seen. */
    uint64_t begun;
    uint64_t refused;
    uint64_t shared;
    uint64_t data_refused;
};

static uint32_t draw(struct model *model, uint32_t limit) {
    return (uint32_t)scale_random_below(&model->random, limit);
}

/* Short ranges as a rule, so that several fit beside each other. */
static void draw_range(struct model *model, uint32_t *out_begin, uint32_t *out_length) {
    *out_begin = draw(model, SIZE + 1);
    const uint32_t most = SIZE - *out_begin;
    const uint32_t wish = draw(model, 4) == 0 ? most : (most < 16 ? most : 16);
    *out_length = draw(model, wish + 1);
}

static bool model_allows(const struct model *model, uint32_t buffer, uint32_t begin,
                         uint32_t length, bool write) {
    for (uint32_t at = begin; at < begin + length; at++) {
        if (model->writers[buffer][at] != 0 || (write && model->readers[buffer][at] != 0)) {
            return false;
        }
    }
    return true;
}

static void model_add(struct model *model, const struct lent *lent, int sign) {
    uint8_t *bytes = lent->writer ? model->writers[lent->buffer] : model->readers[lent->buffer];
    for (uint32_t at = lent->begin; at < lent->begin + lent->length; at++) {
        bytes[at] = (uint8_t)(bytes[at] + sign);
        model->shared += bytes[at] > 1;
    }
    model->loan_count[lent->buffer] += (uint32_t)sign;
}

static void begin_loan(struct model *model, struct lent *lent) {
    void *memory = NULL;
    lent->buffer = draw(model, BUFFERS);
    lent->writer = draw(model, 2) == 0;
    draw_range(model, &lent->begin, &lent->length);
    const bool allowed = model_allows(model, lent->buffer, lent->begin, lent->length, lent->writer);
    const int code = sri_loan_begin(model->pool, model->handles[lent->buffer].bits, lent->begin,
                                    lent->length, lent->writer, &lent->loan, &memory);
    cr_assert_eq(code, allowed ? 0 : SR_E_LENT, "%s [%u, +%u) of buffer %u: %s",
                 lent->writer ? "writer" : "reader", lent->begin, lent->length, lent->buffer,
                 sr_error_name(code));
    if (allowed) {
        lent->in_use = true;
        model_add(model, lent, 1);
        model->begun++;
    } else {
        model->refused++;
    }
}

static void end_loan(struct model *model, struct lent *lent) {
    sri_loan_end(model->pool, &lent->loan, lent->writer ? lent->length : 0);
    model_add(model, lent, -1);
    lent->in_use = false;
}

static void look(struct model *model) {
    uint32_t begin = 0;
    uint32_t length = 0;
    void *data = NULL;
    const uint32_t buffer = draw(model, BUFFERS);
    const int access = (int)draw(model, 2);
    draw_range(model, &begin, &length);
    if (begin == SIZE || length == 0) {
        return; /* out of bounds for access by the program */
    }
    const bool allowed = model_allows(model, buffer, begin, length, access == SR_ACCESS_WRITE);
    const int code =
        sr_buffer_data(model->pool, model->handles[buffer], begin, length, access, &data);
    cr_assert_eq(code, allowed ? 0 : SR_E_LENT, "access %d to [%u, +%u) of buffer %u: %s", access,
                 begin, length, buffer, sr_error_name(code));
    if (allowed && access == SR_ACCESS_WRITE) {
        memset(data, 1, length); /* under AddressSanitizer: it is not poisoned */
    }
    model->data_refused += !allowed;
}

static void release_and_take_again(struct model *model) {
    const uint32_t buffer = draw(model, BUFFERS);
    const bool lent = model->loan_count[buffer] > 0;
    assert_code(sr_pool_release(model->pool, model->handles[buffer]), lent ? SR_E_IN_FLIGHT : 0);
    if (!lent) {
        model->handles[buffer] = buffer_take(model->pool);
    }
}

static void step(struct model *model) {
    struct lent *lent = &model->lents[draw(model, LOANS_MAX)];
    switch (draw(model, 8)) {
    case 0:
    case 1:
        look(model);
        break;
    case 2:
        release_and_take_again(model);
        break;
    default:
        if (lent->in_use) {
            end_loan(model, lent);
        } else {
            begin_loan(model, lent);
        }
        break;
    }
}

static void walk(uint32_t guard, uint64_t stream, uint64_t steps) {
    static struct model model;
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    memset(&model, 0, sizeof model);
    model.random = scale_random(stream);
    options.buffer_size_bytes = SIZE;
    options.buffer_count = BUFFERS;
    options.guard = guard;
    assert_ok(sr_pool_create(NULL, &options, &model.pool));
    for (uint32_t i = 0; i < BUFFERS; i++) {
        model.handles[i] = buffer_take(model.pool);
    }
    for (uint64_t i = 0; i < steps; i++) {
        step(&model);
    }
    cr_assert(model.begun > steps / 10 && model.refused > steps / 100 && model.shared > 0 &&
                  model.data_refused > 0,
              "%llu loans, %llu refused: the walk tested little", (unsigned long long)model.begun,
              (unsigned long long)model.refused);
    for (uint32_t i = 0; i < LOANS_MAX; i++) {
        if (model.lents[i].in_use) {
            end_loan(&model, &model.lents[i]);
        }
    }
    for (uint32_t i = 0; i < BUFFERS; i++) {
        assert_ok(sr_pool_release(model.pool, model.handles[i]));
    }
    cr_assert_eq(pool_stats(model.pool).free_count, BUFFERS);
    pool_end(&model.pool);
}

Test(loan, a_million_random_steps_agree_with_a_model_of_each_byte) {
    walk(SR_GUARD_OFF, 1, scale_count(1000000, 20000));
}

Test(loan, the_same_holds_with_guards) {
    walk(SR_GUARD_POISON, 2, scale_count(300000, 20000));
}

Test(loan, a_range_beyond_the_buffer_is_not_lent) {
    sr_pool *pool = pool_make(SIZE, 1);
    const sr_buffer buffer = buffer_take(pool);
    const struct {
        uint64_t begin;
        uint64_t length;
        int code;
    } ranges[] = {
        {0, SIZE, 0},
        {SIZE, 0, 0},
        {0, SIZE + 1, SR_E_BOUNDS},
        {SIZE, 1, SR_E_BOUNDS},
        {SIZE + 1, 0, SR_E_BOUNDS},
        {UINT64_MAX, 1, SR_E_BOUNDS},
        {1, UINT64_MAX, SR_E_BOUNDS},
        {UINT64_C(1) << 32, 1, SR_E_BOUNDS},
        {0, (UINT64_C(1) << 32) + 1, SR_E_BOUNDS},
    };
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        struct sri_loan loan;
        void *memory = NULL;
        assert_code(sri_loan_begin(pool, buffer.bits, ranges[i].begin, ranges[i].length, true,
                                   &loan, &memory),
                    ranges[i].code);
        if (ranges[i].code == 0) {
            sri_loan_end(pool, &loan, 0);
        }
    }
    assert_ok(sr_pool_release(pool, buffer));
    pool_end(&pool);
}

Test(loan, a_stale_buffer_is_not_lent) {
    sr_pool *pool = pool_make(SIZE, 1);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loan;
    void *memory = NULL;
    assert_ok(sr_pool_release(pool, buffer));
    assert_code(sri_loan_begin(pool, buffer.bits, 0, 1, true, &loan, &memory), SR_E_STALE);
    assert_code(sri_loan_begin(pool, 0, 0, 1, true, &loan, &memory), SR_E_STALE);
    pool_end(&pool);
}

Test(loan, a_quarantined_buffer_is_stale_at_once_and_free_after_its_last_loan) {
    sr_pool *pool = pool_make(SIZE, 1);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan loans[3];
    sr_buffer next;
    void *memory = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(sri_loan_begin(pool, buffer.bits, 10 * i, 10, i == 1, &loans[i], &memory));
    }
    sri_loan_quarantine(pool, &loans[1]);
    sri_loan_quarantine(pool, &loans[2]); /* a second time: no change */
    assert_code(sr_pool_release(pool, buffer), SR_E_STALE);
    cr_assert_eq(pool_stats(pool).quarantined_count, 1);
    cr_assert_eq(pool_stats(pool).held_count, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_code(sr_pool_acquire(pool, 1, &next), SR_E_FULL);
        assert_code(sr_pool_destroy(&pool), SR_E_IN_FLIGHT);
        sri_loan_end(pool, &loans[i], 0);
    }
    cr_assert_eq(pool_stats(pool).quarantined_count, 0);
    cr_assert_eq(pool_stats(pool).free_count, 1);
    next = buffer_take(pool);
    cr_assert_neq(next.bits, buffer.bits);
    pool_end(&pool);
}

Test(loan, an_orphaned_loan_keeps_the_slot_until_it_is_ended_from_anywhere) {
    sr_pool *pool = pool_make(SIZE, 1);
    const sr_buffer buffer = buffer_take(pool);
    struct sri_loan orphan;
    struct sri_loan other;
    void *memory = NULL;
    assert_ok(sri_loan_begin(pool, buffer.bits, 0, 10, true, &orphan, &memory));
    assert_ok(sri_loan_begin(pool, buffer.bits, 10, 10, true, &other, &memory));
    sri_loan_orphan(pool, &orphan);
    sri_loan_end(pool, &other, 0);
    cr_assert_eq(pool_stats(pool).quarantined_count, 1, "the orphan still holds it");
    sri_loan_orphan_end(pool, orphan.slot);
    cr_assert_eq(pool_stats(pool).quarantined_count, 0);
    (void)buffer_take(pool);
    pool_end(&pool);
}
