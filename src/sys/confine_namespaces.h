/* SPDX-License-Identifier: MIT */
/*
 * Confine, namespaces: the calling process, or with SRI_NAMESPACE_PID its next child, sees a world
 * of its own. In a user namespace a process without privileges may make the others, and who has the
 * same user outside is a stranger (ptrace(2)).
 */
#ifndef SAFERING_SYS_CONFINE_NAMESPACES_H
#define SAFERING_SYS_CONFINE_NAMESPACES_H

enum sri_namespace {
    SRI_NAMESPACE_USER,
    SRI_NAMESPACE_NETWORK,
    SRI_NAMESPACE_IPC,
    SRI_NAMESPACE_PID
};

/* 0, or a negative errno: -EPERM and -ENOSPC where namespaces are not permitted. A user namespace
 * has user and group under their own numbers; if only that fails, the process is in it all the
 * same, as a user without a number: confined no less. */
int sri_confine_namespace(enum sri_namespace kind);

#endif
