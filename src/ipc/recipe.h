/* SPDX-License-Identifier: MIT */
/*
 * Recipe: how a worker of a service is started, in memory of its own. A reload is another recipe.
 */
#ifndef SAFERING_IPC_RECIPE_H
#define SAFERING_IPC_RECIPE_H

#include "ipc/launch_wire.h"
#include <safering/supervisor.h>

/* The number of the worker's end of its socket; 0, 1 and 2 are /dev/null. */
#define SRI_RECIPE_SOCKET_FD 3u

struct sri_recipe {
    uint32_t version;       /* 0: there is none */
    const char **arguments; /* the program's path first; NULL at the end */
    const char **variables;
    struct sri_sandbox_policy *policy; /* NULL: that of `none` */
};

/* 0, -EINVAL (no absolute path; a variable without a name or a value, or one that is ours), what
 * sr_sandbox_check() says, -E2BIG (more strings than a launcher takes), -ENOMEM. On failure nothing
 * is owned. */
int sri_recipe_init(struct sri_recipe *recipe, uint32_t version, const sr_service_options *options);
/* The same once more, as a further version. 0 or -ENOMEM. */
int sri_recipe_again(struct sri_recipe *recipe, uint32_t version, const struct sri_recipe *other);
void sri_recipe_deinit(struct sri_recipe *recipe);

/* A plan that borrows from the recipe. @socket is borrowed, too. */
struct sri_launch_plan sri_recipe_plan(const struct sri_recipe *recipe, int socket);

#endif
