/* SPDX-License-Identifier: MIT */
/*
 * CPUs: how many of them this process may use at once. The least of three: those that exist, those
 * of its affinity mask, and what its control groups give it per period of time (cpu.max of version
 * 2, cpu.cfs_quota_us of version 1), rounded down: with one and a half CPUs two threads that are
 * always awake stop each other. At least 1.
 *
 * Knows no queue and no backend, so that a worker can have it without them.
 */
#ifndef SAFERING_SYS_CPUS_H
#define SAFERING_SYS_CPUS_H

#include <stdint.h>

#define SRI_CPUS_UNLIMITED UINT32_MAX

/* Asks the kernel anew at each call: some system calls. For the moment when something is created.
 */
uint32_t sri_cpus_usable(void);

/* The quota of the control group that /proc/self/cgroup (@self) says, in the trees of both versions
 * below @root, usually /sys/fs/cgroup; SRI_CPUS_UNLIMITED where there is none. */
uint32_t sri_cpus_of_cgroup(const char *self, const char *root);

/* Whole CPUs of "max 100000" or "150000 100000"; SRI_CPUS_UNLIMITED for none, and for what is not
 * understood. */
uint32_t sri_cpus_of_quota(const char *text);

#endif
