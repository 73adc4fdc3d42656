/* SPDX-License-Identifier: MIT */
/*
 * The limit of src/ipc/spin.h: two processes with two threads each, CPUS CPUs. A thread counts itself
 * among those awake, and spins if the sum of both sides is within the CPUs. docs/PROOFS.md says what is
 * proved; scripts/prove runs it.
 *
 * Counting is one atomic step to memory, as it is on x86 (lock xadd) and as sequential consistency
 * makes it elsewhere, so no store buffers are needed.
 *
 *   -DCPUS=n          2 if not set
 * Planted errors, each of which must be found:
 *   -DCHECK_FIRST     a thread looks at the sum before it counts itself
 *   -DCOUNT_SPINNERS  it leaves the count while it still spins
 */
#ifndef CPUS
#define CPUS 2
#endif

byte awake[2];  /* one side's words each */
byte spinning;  /* what really spins: nobody in the program knows it */

proctype thread(byte here; byte there) {
    byte sum, turns;
    do
    :: turns < 2 ->
        turns++;
#ifdef CHECK_FIRST
        sum = awake[here] + 1;
        sum = sum + awake[there];
        awake[here]++;
#else
        awake[here]++;
        sum = awake[here];
        sum = sum + awake[there];
#endif
        if
        :: sum <= CPUS ->
            spinning++;
            assert(spinning <= CPUS);
#ifdef COUNT_SPINNERS
            awake[here]--;
            spinning--
#else
            spinning--;
            awake[here]--
#endif
        :: else -> awake[here]--
        fi
    :: else -> break
    od
}

init {
    atomic {
        run thread(0, 1);
        run thread(0, 1);
        run thread(1, 0);
        run thread(1, 0)
    }
}
