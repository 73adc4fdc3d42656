/* SPDX-License-Identifier: MIT */
/* Two threads write one variable without order: ThreadSanitizer must fail the run. See must_report. */
#include <pthread.h>
#include <stddef.h>

static volatile int shared;

static void *write_shared(void *ctx)
{
    shared = 1;
    return ctx;
}

int main(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, write_shared, NULL) != 0) {
        return 2;
    }
    shared = 2;
    return pthread_join(thread, NULL);
}
