/* SPDX-License-Identifier: MIT */
#include "support/services.h"

#include "support/launch.h"
#include "support/valgrind.h"
#include <safering/error.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

static void must(const char *what, int code) {
    if (code < 0) {
        fprintf(stderr, "services: %s: %d (%s)\n", what, code, sr_error_name(code));
        abort();
    }
}

sr_supervisor_options supervisor_options(void) {
    sr_supervisor_options options = SR_SUPERVISOR_OPTIONS_INIT;
    options.launcher = launch_launcher_path();
    options.variables = (const char *const *)environ;
    return options;
}

sr_supervisor *supervisor_make(sr_ring *ring) {
    const sr_supervisor_options options = supervisor_options();
    sr_supervisor *supervisor = NULL;
    if (RUNNING_ON_VALGRIND == 0) {
        must("sr_supervisor_open", sr_supervisor_open(ring, &options, &supervisor));
    }
    return supervisor;
}

sr_service_options service_options(const char *const *arguments) {
    sr_service_options options = SR_SERVICE_OPTIONS_INIT;
    options.program = launch_serving_path();
    options.arguments = arguments;
    options.variables = (const char *const *)environ;
    options.sandbox = "none";
    return options;
}

sr_service *service_make(sr_supervisor *supervisor) {
    const sr_service_options options = service_options(NULL);
    sr_service *service = NULL;
    if (supervisor != NULL) {
        must("sr_service_open", sr_service_open(supervisor, &options, &service));
    }
    return service;
}
