/* SPDX-License-Identifier: MIT */
/* The source is included for home_of(): a test of collisions must know what collides. */
#include "core/index.c"

#include "unit/fixture.h"

#include "support/scale.h"

#define KEYS 512u

/* The simple truth: one value for each of a few keys. */
struct model {
    uint64_t keys[KEYS];
    uint32_t values[KEYS];
    uint32_t count;
};

static void model_fill_random(struct model *model, struct scale_random *random) {
    for (uint32_t i = 0; i < KEYS; i++) {
        model->keys[i] = scale_random_next(random);
        model->values[i] = SRI_INDEX_NONE;
    }
    model->count = 0;
}

static void assert_same(const struct sri_index *index, const struct model *model) {
    for (uint32_t i = 0; i < KEYS; i++) {
        cr_assert_eq(sri_index_find(index, model->keys[i]), model->values[i], "key %u", i);
    }
    cr_assert_eq(index->count, model->count);
    cr_assert(sri_index_is_valid(index));
}

/* Random inserts and removes, each compared with the model. */
static void walk(struct sri_index *index, struct model *model, struct scale_random *random,
                 uint64_t steps) {
    for (uint64_t step = 0; step < steps; step++) {
        const uint32_t i = (uint32_t)scale_random_below(random, KEYS);
        if (model->values[i] != SRI_INDEX_NONE) {
            cr_assert(sri_index_remove(index, model->keys[i]));
            model->values[i] = SRI_INDEX_NONE;
            model->count--;
            cr_assert_not(sri_index_remove(index, model->keys[i]));
        } else {
            const uint32_t value = (uint32_t)scale_random_below(random, UINT32_MAX);
            const bool room = model->count < index->count_max;
            cr_assert_eq(sri_index_insert(index, model->keys[i], value), room);
            if (room) {
                model->values[i] = value;
                model->count++;
            }
        }
        cr_assert_eq(sri_index_find(index, model->keys[i]), model->values[i]);
        if (step % 1000 == 0) {
            assert_same(index, model);
        }
    }
    assert_same(index, model);
}

/* Keys that all have the same home under @index's seed. */
static void model_fill_colliding(struct model *model, const struct sri_index *index,
                                 struct scale_random *random, uint32_t home) {
    model->count = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        do {
            model->keys[i] = scale_random_next(random);
        } while (home_of(index, model->keys[i]) != home);
        model->values[i] = SRI_INDEX_NONE;
    }
}

static uint32_t chain_length(const struct sri_index *index, uint32_t home) {
    uint32_t length = 0;
    for (uint32_t i = *home_at(index, home); i != SRI_INDEX_NONE; i = index->cells[i].next) {
        length++;
    }
    return length;
}

static uint32_t longest_chain(const struct sri_index *index) {
    uint32_t longest = 0;
    for (uint32_t home = 0; home <= index->home_mask; home++) {
        const uint32_t length = chain_length(index, home);
        longest = length > longest ? length : longest;
    }
    return longest;
}

Test(index, homes_are_a_power_of_two_and_twice_as_many_as_keys) {
    for (uint32_t count = 1; count < 100000; count += 37) {
        const uint32_t homes = homes_for(count);
        cr_assert_eq(homes & (homes - 1), 0);
        cr_assert_geq(homes, 2 * count);
        cr_assert(homes == 16 || homes < 4 * count);
        cr_assert_eq(sri_index_cells_for(count) * sizeof(struct sri_index_cell),
                     count * sizeof(struct sri_index_cell) + homes * sizeof(uint32_t));
    }
}

Test(index, random_inserts_and_removes_agree_with_a_model) {
    static struct sri_index_cell cells[1024];
    static struct model model;
    struct scale_random random = scale_random(1);
    struct sri_index index;
    model_fill_random(&model, &random);
    sri_index_init(&index, cells, 300, scale_random_next(&random)); /* fewer than keys: gets full */
    walk(&index, &model, &random, scale_count(1000000, 20000));
}

Test(index, keys_with_one_home_are_all_found_also_in_the_last_one) {
    static struct sri_index_cell cells[1024];
    static struct model model;
    struct scale_random random = scale_random(2);
    struct sri_index index;
    sri_index_init(&index, cells, KEYS, 12345);
    cr_assert_eq(index.home_mask, 1023);
    model_fill_colliding(&model, &index, &random, 1023);
    walk(&index, &model, &random, scale_count(100000, 5000));
}

Test(index, keys_chosen_to_collide_scatter_under_another_seed) {
    static struct sri_index_cell cells[1024];
    static struct model model;
    struct scale_random random = scale_random(3);
    struct sri_index index;
    sri_index_init(&index, cells, KEYS, 0);
    model_fill_colliding(&model, &index, &random, 7);
    for (uint32_t i = 0; i < KEYS; i++) {
        cr_assert(sri_index_insert(&index, model.keys[i], i));
    }
    cr_assert_eq(longest_chain(&index), KEYS, "the keys do not collide, so nothing is tested");
    sri_index_init(&index, cells, KEYS, UINT64_C(0x9d5f3a7b1c2e4f68));
    for (uint32_t i = 0; i < KEYS; i++) {
        cr_assert(sri_index_insert(&index, model.keys[i], i));
    }
    cr_assert_lt(longest_chain(&index), KEYS / 32);
}

/* Keys that a look-up passes before the one that it wants, for all that are in. */
static uint64_t steps_of(const struct sri_index *index) {
    uint64_t steps = 0;
    for (uint32_t home = 0; home <= index->home_mask; home++) {
        const uint64_t length = chain_length(index, home);
        steps += length > 0 ? length * (length - 1) / 2 : 0;
    }
    return steps;
}

/* Handles are not random: they differ by one entry, by one generation, by powers of two. */
Test(index, keys_in_steps_as_handles_have_them_make_short_chains) {
    enum { COUNT = 4096, SEEDS = 50 };
    static struct sri_index_cell cells[2 * COUNT];
    struct scale_random random = scale_random(4);
    struct sri_index index;
    for (uint32_t bits = 0; bits < 48; bits++) {
        uint64_t steps = 0;
        const uint64_t base = scale_random_next(&random);
        for (uint32_t seed = 0; seed < SEEDS; seed++) {
            sri_index_init(&index, cells, COUNT, scale_random_next(&random));
            for (uint32_t i = 0; i < COUNT; i++) {
                cr_assert(sri_index_insert(&index, base + ((uint64_t)i << bits), i));
            }
            steps += steps_of(&index);
        }
        /* Half as many random keys as homes have a quarter of a key before them (Knuth, The Art of
         * Computer Programming, 6.4). */
        const double average = (double)steps / (COUNT * SEEDS);
        cr_assert_lt(average, 0.3, "steps of 2^%u: %.1f keys passed on average", bits, average);
    }
}

Test(index, a_full_index_takes_no_more_and_keeps_what_it_has) {
    struct sri_index_cell cells[16];
    struct sri_index index;
    sri_index_init(&index, cells, 5, 1);
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert(sri_index_insert(&index, i, 100 + i));
    }
    cr_assert_not(sri_index_insert(&index, 5, 105));
    cr_assert_eq(sri_index_find(&index, 5), SRI_INDEX_NONE);
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(sri_index_find(&index, i), 100 + i);
    }
    cr_assert(sri_index_remove(&index, 0));
    cr_assert(sri_index_insert(&index, 5, 105));
}

Test(index, extreme_keys_are_keys_like_others) {
    const uint64_t keys[] = {0, 1, UINT64_MAX, UINT64_C(1) << 63, UINT32_MAX};
    struct sri_index_cell cells[16];
    struct sri_index index;
    sri_index_init(&index, cells, COUNT_OF(keys), 0);
    for (uint32_t i = 0; i < COUNT_OF(keys); i++) {
        cr_assert_eq(sri_index_find(&index, keys[i]), SRI_INDEX_NONE);
        cr_assert(sri_index_insert(&index, keys[i], i));
    }
    for (uint32_t i = 0; i < COUNT_OF(keys); i++) {
        cr_assert_eq(sri_index_find(&index, keys[i]), i);
    }
}

Test(index, taking_a_key_gives_its_value_and_removes_it) {
    struct sri_index_cell cells[16];
    struct sri_index index;
    sri_index_init(&index, cells, 5, 1);
    cr_assert_eq(sri_index_take(&index, 7), SRI_INDEX_NONE);
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert(sri_index_insert(&index, i, 100 + i));
    }
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(sri_index_take(&index, i), 100 + i);
        cr_assert_eq(sri_index_find(&index, i), SRI_INDEX_NONE);
        cr_assert_eq(sri_index_take(&index, i), SRI_INDEX_NONE);
        cr_assert_eq(index.count, 4 - i);
        cr_assert(sri_index_is_valid(&index));
    }
}

#ifdef SAFERING_CHECK_SLOW
Test(index, inserting_a_key_twice_aborts, .signal = SIGABRT) {
    struct sri_index_cell cells[16];
    struct sri_index index;
    sri_index_init(&index, cells, 5, 1);
    (void)sri_index_insert(&index, 7, 1);
    (void)sri_index_insert(&index, 7, 2);
}
#endif
