/* SPDX-License-Identifier: MIT */
/*
 * Init: pid 1 of a worker's pid namespace. The kernel gives pid 1 no default signal actions, so the
 * worker, whose abort() and alarm() must end it, is not pid 1 but its child. The init reaps what is
 * orphaned in the namespace, says how the worker ended (not how it ends itself), and exits; with it
 * the kernel kills all that is left in the namespace.
 *
 * Neighbours: start.c forks it, ended.c reads what it says.
 */
#ifndef SAFERING_WORKER_INIT_H
#define SAFERING_WORKER_INIT_H

#include "sys/children.h"

/* Forks the worker. 0: this is the worker, go on. A code: the fork failed. Does not return in the
 * init, which sends one struct sri_child_end over @init_fd. */
int sri_init_run(int init_fd);

/* Whether these bytes can be what an init says. A worker of the same user may have got at it. */
bool sri_init_word_is_valid(const struct sri_child_end *end);

#endif
