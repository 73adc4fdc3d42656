/* SPDX-License-Identifier: MIT */
/*
 * The doorbell of src/ipc/wake.h: a waker publishes MESSAGES messages and looks each time whether the
 * waiter naps; the waiter takes them, and sleeps when there is none. docs/PROOFS.md says which line
 * is which line of the code, what is proved and what is assumed; scripts/prove runs it.
 *
 * Memory is that of x86 (TSO): a store goes into the buffer of its CPU and reaches memory later, in
 * order; a load looks at memory. (No process loads a word that it stores itself.) A fence, an atomic
 * exchange and a system call wait until the buffer is empty.
 *
 *   -DEVENTFD       the waiter sleeps in its ring, on an eventfd; without it, in a futex
 *   -DENDER         a third thread, of the waiter's process, ends the wait at some moment
 *   -DMESSAGES=n    2 if not set
 * Planted errors, each of which must be found:
 *   -DNO_RECHECK    the waiter shows its nap and sleeps without looking again
 *   -DCLEAR_EARLY   it shows that it is awake between the look and the sleep
 *   -DNO_FENCE_WAITER, -DNO_FENCE_WAKER   the stores may pass the loads after them
 *   -DNO_RAISE      the waker wakes without raising its word
 *   -DLATE_NOTE     the waiter notes the waker's word after it has shown its nap, not before
 *   -DNOTE_AGAIN    it notes anew for a number that it has shown before
 *   -DRING_ALWAYS   the waker wakes without looking
 *   -DRING_AGAIN    the waker rings for a nap that it has rung for
 *   -DEND_ONCE      the ender wakes once and goes
 *   -DNUMBER_EARLY  on an eventfd: a new number after any sleep, also one that read nothing
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif

#define HEAD  0 /* the waker's: messages published */
#define RINGS 1 /* the waker's */
#define NAP   2 /* the waiter's: the number of its nap, 0 while it is awake */
#define ENDED 3 /* the ender's */

byte memory[4];
chan waker_buffer = [3] of {byte, byte};
chan waiter_buffer = [3] of {byte, byte};
chan ender_buffer = [1] of {byte, byte};

bool asleep;         /* in FUTEX_WAIT */
byte tokens;         /* in the eventfd */
byte naps;           /* shown so far */
byte sleeps;         /* of these, ended by a sleep; on an eventfd, by one that read it */
byte calls;          /* system calls to wake */
bool stirred;        /* the one wake-up that comes from elsewhere has been: a signal, another completion */
bool looked_idle;    /* the one look without a message has been */
bool waiter_is_done; /* for the property of progress */

#define STORE(buffer, word, value) buffer ! word, value
#define FENCE(buffer)              empty(buffer)

proctype cpu(chan buffer) {
    byte word, value;
end:
    do
    :: atomic { buffer ? word, value -> memory[word] = value }
    od
}

/* ---- the waker: sri_wake_ring(), sri_wake_ring_nap() ---------------------------------------------- */

inline wake_up() {
    calls++;
    assert(naps > 0 && calls <= sleeps + 1); /* none if it is never asleep, one for each sleep */
#ifdef EVENTFD
    atomic {
        empty(waker_buffer) ->
        tokens++;
        assert(tokens <= 1)
    }
#else
#ifndef NO_RAISE
    rings++;
    STORE(waker_buffer, RINGS, rings);
#endif
    atomic { empty(waker_buffer) -> asleep = false }
#endif
}

inline look() {
#ifndef NO_FENCE_WAKER
    FENCE(waker_buffer);
#endif
    nap = memory[NAP];
#ifdef RING_ALWAYS
    wake_up()
#else
    if
#ifdef RING_AGAIN
    :: nap != 0 -> wake_up()
#else
    :: nap != 0 && nap != nap_rung -> nap_rung = nap; wake_up()
#endif
    :: else
    fi
#endif
}

proctype waker() {
    byte nap, nap_rung, rings, sent;
    do
    :: sent < MESSAGES ->
        sent++;
        STORE(waker_buffer, HEAD, sent);
        look()
    :: !looked_idle -> /* nothing says that each look has a message of its own */
        looked_idle = true;
        look()
    :: sent == MESSAGES -> break
    od
}

/* ---- the waiter: sri_wake_arm(), sleep_once(), sri_wake_awake() ------------------------------------ */

inline take_new_number() {
    sleeps++;
    number++;
    is_new = true
}

/* Work that is there is taken, all of it. */
inline find() {
    head = memory[HEAD];
    found = head > taken;
    if
    :: found -> taken = head
    :: else
    fi
}

inline sleep() {
#ifdef EVENTFD
    atomic {
        empty(waiter_buffer) ->
        if
        :: tokens > 0 -> tokens = 0; take_new_number()
        :: !stirred -> stirred = true
#ifdef NUMBER_EARLY
            ; number++; is_new = true
#endif
        fi
    }
#else
    atomic {
        empty(waiter_buffer) ->
        if
        :: memory[RINGS] == noted -> asleep = true
        :: else
        fi
    }
    if
    :: !asleep
    :: atomic { asleep && !stirred -> stirred = true; asleep = false }
    fi;
    take_new_number()
#endif
}

inline is_ended() {
#ifdef ENDER
    ended = memory[ENDED] == 1
#else
    skip
#endif
}

inline note() {
    if
    :: is_new -> noted = memory[RINGS]
#ifdef NOTE_AGAIN
    :: else -> noted = memory[RINGS]
#else
    :: else
#endif
    fi;
    is_new = false
}

proctype waiter() {
    byte number = 1, noted, head, taken;
    bool is_new = true, found, ended;
    do
    :: taken < MESSAGES && !ended ->
        find();
        is_ended();
        if
        :: found || ended
        :: else ->
#ifndef LATE_NOTE
            note();
#endif
            naps++;
            STORE(waiter_buffer, NAP, number);
#ifndef NO_FENCE_WAITER
            FENCE(waiter_buffer);
#endif
#ifdef LATE_NOTE
            note();
#endif
            is_ended();
#ifndef NO_RECHECK
            find();
#endif
            if
            :: found || ended
            :: else ->
#ifdef CLEAR_EARLY
                STORE(waiter_buffer, NAP, 0);
#endif
                sleep()
            fi;
            STORE(waiter_buffer, NAP, 0)
        fi
    :: else -> break
    od;
    waiter_is_done = true
}

/* ---- the ender: sri_wake_end() --------------------------------------------------------------------- */

proctype ender() {
    byte nap;
    STORE(ender_buffer, ENDED, 1);
    FENCE(ender_buffer);
    nap = memory[NAP];
    if
    :: nap != 0 ->
        do
        :: memory[NAP] == nap ->
            asleep = false
#ifdef END_ONCE
            -> break
#endif
        :: else -> break
        od
    :: else
    fi
}

init {
    atomic {
        run cpu(waker_buffer);
        run cpu(waiter_buffer);
        run waiter();
#ifdef ENDER
        run cpu(ender_buffer);
        run ender();
#endif
#ifdef QUIET
        skip /* a waker that has nothing to say, and has gone */
#else
        run waker()
#endif
    }
}

ltl progress { <> waiter_is_done }
