/* SPDX-License-Identifier: MIT */
/* Two threads write one variable without order: ThreadSanitizer must fail the run. See must_report.
 * Often: of two writes at the very same moment it may see neither. */
#include <pthread.h>
#include <stddef.h>

#define TIMES 100000

static volatile int shared;

static void *write_shared(void *ctx)
{
    for (int i = 0; i < TIMES; i++) {
        shared = i;
    }
    return ctx;
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, write_shared, NULL) != 0) {
        return 2;
    }
    for (int i = 0; i < TIMES; i++) {
        shared = i;
    }
    return pthread_join(thread, NULL);
}
