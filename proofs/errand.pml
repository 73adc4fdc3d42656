/* SPDX-License-Identifier: MIT */
/*
 * The errands of src/ipc/errand.c: threads that acquire a slot, post it, and wait or withdraw, and an
 * owner that takes all that were posted, uses memory of their threads, and ends them. docs/PROOFS.md
 * says which line is which line of the code; scripts/prove runs it.
 *
 * Each read and each compare-and-swap is a step of its own, in one order for all: every word here is
 * changed by compare-and-swap or exchange alone, or is read only by who has the slot.
 *
 *   -DTHREADS=n, -DSLOTS=n, -DERRANDS=n   threads, slots, errands of each thread; 2, 1, 2 if not set
 * Planted errors, each of which must be found:
 *   -DNO_NUMBER      the free list is compared by its first slot alone
 *   -DSTEAL          a thread withdraws whatever the owner is doing
 *   -DFREE_TWICE     a thread that withdraws frees the slot itself
 *   -DNEXT_LATE      the owner asks for the next slot of its list when it has done the one before
 *   -DNO_END_CHECK   the owner ends an errand without looking whether it was withdrawn
 *   -DKEEP           the owner does not free what was withdrawn
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef ERRANDS
#define ERRANDS 2
#endif

#define NONE 255

mtype = {FREE, POSTED, BEGUN, UNDER_WAY, ENDING, ENDED, WITHDRAWN};

mtype state[SLOTS];
byte next[SLOTS];
byte first = NONE;  /* of the free list */
byte number;        /* that each of its changes gives anew */
byte posted = NONE; /* the newest */

/* What the program does not know, for assertions. */
byte holder[SLOTS];  /* whose errand it is, 1 + thread; 0: it is in the free list */
bool waits[THREADS]; /* its memory may be used */
byte left_count;     /* threads that have done all */

#ifdef NO_NUMBER
#define UNCHANGED(f, n) first == f
#else
#define UNCHANGED(f, n) first == f && number == n
#endif

inline release(slot) {
    assert(holder[slot] != 0); /* freed once */
    atomic { holder[slot] = 0; state[slot] = FREE };
    do
    :: atomic { seen = first; seen_number = number };
       next[slot] = seen;
       if
       :: atomic { UNCHANGED(seen, seen_number) -> first = slot; number++ }; break
       :: else
       fi
    od
}

/* ---- a thread: sri_errand_acquire(), sri_errand_post(), sri_errand_wait() ------------------------- */

inline acquire() {
    mine = NONE;
    do
    :: atomic { seen = first; seen_number = number };
       if
       :: seen == NONE -> break
       :: else
       fi;
       after = next[seen];
       if
       :: atomic {
              UNCHANGED(seen, seen_number) ->
              first = after;
              number++;
              assert(holder[seen] == 0); /* it is nobody else's */
              holder[seen] = 1 + me
          };
          mine = seen;
          break
       :: else
       fi
    od
}

inline post() {
    state[mine] = POSTED;
    do
    :: seen = posted;
       next[mine] = seen;
       if
       :: atomic { posted == seen -> posted = mine }; break
       :: else
       fi
    od
}

/* It waits, and at any moment its time may be over. */
inline wait_or_withdraw() {
    withdrawn = false;
    do
    :: state[mine] == ENDED -> break
#ifdef STEAL
    :: atomic { state[mine] != ENDED -> state[mine] = WITHDRAWN }; withdrawn = true; break
#else
    :: atomic { state[mine] == POSTED || state[mine] == UNDER_WAY -> state[mine] = WITHDRAWN };
       withdrawn = true;
       break
#endif
    od
}

proctype thread(byte me) {
    byte mine, seen, seen_number, after, errands;
    bool withdrawn;
    do
    :: errands < ERRANDS ->
        errands++;
        acquire();
        if
        :: mine == NONE /* refused: SR_E_FULL */
        :: else ->
            waits[me] = true;
            post();
            wait_or_withdraw();
            waits[me] = false;
            if
            :: withdrawn ->
#ifdef FREE_TWICE
                release(mine)
#else
                skip
#endif
            :: else -> release(mine)
            fi
        fi
    :: else -> break
    od;
    left_count++
}

/* ---- the owner: sri_errands_take(), sri_errand_begin(), sri_errand_begin_end() -------------------- */

inline use_memory(slot) {
    assert(holder[slot] != 0 && waits[holder[slot] - 1])
}

inline free_withdrawn(slot) {
    assert(state[slot] == WITHDRAWN);
#ifndef KEEP
    release(slot)
#endif
}

inline end(slot) {
    use_memory(slot);
    use_memory(slot); /* a copy takes time */
    state[slot] = ENDED
}

inline take() {
    atomic { at = posted; posted = NONE };
    list = NONE;
    do
    :: at != NONE ->
        after = next[at];
        next[at] = list;
        list = at;
        at = after
    :: else -> break
    od
}

inline begin_all() {
    do
    :: list != NONE ->
#ifndef NEXT_LATE
        after = next[list];
#endif
        if
        :: atomic { state[list] == POSTED -> state[list] = BEGUN };
            use_memory(list);
            if
            :: end(list) /* at once */
            :: state[list] = UNDER_WAY; under_way[list] = true
            fi
        :: else -> free_withdrawn(list)
        fi;
#ifdef NEXT_LATE
        after = next[list];
#endif
        list = after
    :: else -> break
    od
}

inline end_some() {
    at = 0;
    do
    :: at < SLOTS && under_way[at] ->
        under_way[at] = false;
#ifdef NO_END_CHECK
        state[at] = ENDING;
        end(at);
#else
        if
        :: atomic { state[at] == UNDER_WAY -> state[at] = ENDING }; end(at)
        :: else -> free_withdrawn(at)
        fi;
#endif
        at++
    :: at < SLOTS -> at++ /* not yet, or not this one */
    :: else -> break
    od
}

proctype owner() {
    byte at, list, after, seen, seen_number, slots;
    bool under_way[SLOTS];
    do
    :: posted != NONE -> take(); begin_all()
    :: end_some()
    :: left_count == THREADS && posted == NONE -> break
    od;
    /* What is under way ends, and then every slot is free, once. */
    at = 0;
    do
    :: at < SLOTS ->
        if
        :: under_way[at] -> under_way[at] = false; free_withdrawn(at)
        :: else
        fi;
        at++
    :: else -> break
    od;
    at = first;
    do
    :: at != NONE -> slots++; assert(slots <= SLOTS); at = next[at]
    :: else -> break
    od;
    assert(slots == SLOTS)
}

init {
    byte i;
    atomic {
        do
        :: i < SLOTS -> next[i] = first; state[i] = FREE; first = i; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < THREADS -> run thread(i); i++
        :: else -> break
        od;
        run owner()
    }
}
