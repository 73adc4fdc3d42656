/* SPDX-License-Identifier: MIT */
#include "ipc/recipe.h"

#include "ipc/sandbox.h"
#include "ipc/strings.h"
#include "sys/memory.h"
#include <errno.h>

#define SOCKET_NAME "SAFERING_WORKER_SOCKET"

static const char socket_variable[] = SOCKET_NAME "=3";
_Static_assert(SRI_RECIPE_SOCKET_FD == 3, "the variable says so");

static int check_variable(const char *variable) {
    const char *equals = strchr(variable, '=');
    if (equals == NULL || equals == variable) {
        return -EINVAL;
    }
    return strncmp(variable, SOCKET_NAME "=", sizeof SOCKET_NAME) == 0 ? -EINVAL : 0;
}

static int check(const sr_service_options *options) {
    if (options->program == NULL || options->program[0] != '/') {
        return -EINVAL;
    }
    /* One place in each list is ours. */
    if (sri_count_strings(options->arguments) >= SRI_LAUNCH_STRINGS_MAX ||
        sri_count_strings(options->variables) >= SRI_LAUNCH_STRINGS_MAX) {
        return -E2BIG;
    }
    for (uint32_t i = 0; options->variables != NULL && options->variables[i] != NULL; i++) {
        const int code = check_variable(options->variables[i]);
        if (code < 0) {
            return code;
        }
    }
    return 0;
}

/* Whether a launcher would take it: the limit is that of one message. */
static int try_plan(const struct sri_recipe *recipe) {
    struct sri_launch_packet *packet = sri_allocate(1, sizeof *packet);
    if (packet == NULL) {
        return -ENOMEM;
    }
    const struct sri_launch_plan plan = sri_recipe_plan(recipe, 0);
    const int code = sri_launch_start_encode(&plan, 1, 1, packet);
    sri_release(packet);
    return code;
}

/* The policy in memory of its own, or NULL for none. */
static int take_policy(const char *text, struct sri_sandbox_policy **out_policy) {
    struct sri_sandbox_policy policy;
    uint32_t position = 0;
    const int code = sri_sandbox_policy_parse(text != NULL ? text : "strict", &policy, &position);
    return code < 0 ? code
                    : sri_sandbox_copy(policy.layers_asked != 0 ? &policy : NULL, out_policy);
}

int sri_recipe_init(struct sri_recipe *recipe, uint32_t version,
                    const sr_service_options *options) {
    *recipe = (struct sri_recipe){0};
    int code = check(options);
    if (code < 0) {
        return code;
    }
    code = take_policy(options->sandbox, &recipe->policy);
    if (code < 0) {
        return code;
    }
    recipe->arguments = sri_copy_strings(options->program, options->arguments, NULL);
    recipe->variables = sri_copy_strings(NULL, options->variables, socket_variable);
    code = recipe->arguments != NULL && recipe->variables != NULL ? try_plan(recipe) : -ENOMEM;
    if (code < 0) {
        sri_recipe_deinit(recipe);
        return code;
    }
    recipe->version = version;
    return 0;
}

int sri_recipe_again(struct sri_recipe *recipe, uint32_t version, const struct sri_recipe *other) {
    *recipe = (struct sri_recipe){
        .version = version,
        .arguments = sri_copy_strings(NULL, other->arguments, NULL),
        .variables = sri_copy_strings(NULL, other->variables, NULL),
    };
    const int code = recipe->arguments != NULL && recipe->variables != NULL
                         ? sri_sandbox_copy(other->policy, &recipe->policy)
                         : -ENOMEM;
    if (code < 0) {
        sri_recipe_deinit(recipe);
    }
    return code;
}

void sri_recipe_deinit(struct sri_recipe *recipe) {
    sri_release(recipe->arguments);
    sri_release(recipe->variables);
    sri_release(recipe->policy);
    *recipe = (struct sri_recipe){0};
}

struct sri_launch_plan sri_recipe_plan(const struct sri_recipe *recipe, int socket) {
    struct sri_launch_plan plan = SRI_LAUNCH_PLAN_INIT;
    plan.path = recipe->arguments[0];
    plan.arguments = recipe->arguments;
    plan.variables = recipe->variables;
    plan.policy = recipe->policy;
    plan.fds[0] = (struct sri_launch_fd){socket, SRI_RECIPE_SOCKET_FD};
    plan.fd_count = 1;
    return plan;
}
