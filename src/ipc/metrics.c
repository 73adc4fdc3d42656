/* SPDX-License-Identifier: MIT */
/* What services have done, for people and for machines: times of methods, and all of it as text in
 * the format that Prometheus reads. */
#include "ipc/service.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- one method -------------------------------------------------------------------------------
 */

int sr_service_get_method_stats(sr_service *service, uint32_t method, sr_method_stats *out_stats) {
    int code = sri_service_check(service);
    if (code == 0 && (out_stats == NULL || !sri_stats_size_is_valid(out_stats->size))) {
        code = -EINVAL;
    }
    if (code == 0 && method >= service->method_count) {
        code = SR_E_BOUNDS;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    const struct sri_service_method *known = &service->methods[method];
    const sr_method_stats stats = {
        .size = sizeof stats,
        .answers = known->times.count,
        .failures = known->failures,
        .bytes_sent = known->bytes_sent,
        .bytes_received = known->bytes_received,
        .sum_ns = known->times.sum_ns,
        .max_ns = known->times.max_ns,
        .p50_ns = sri_histogram_quantile_ns(&known->times, 500),
        .p99_ns = sri_histogram_quantile_ns(&known->times, 990),
        .p999_ns = sri_histogram_quantile_ns(&known->times, 999),
    };
    sri_stats_give(out_stats, &stats, sizeof stats);
    return 0;
}

/* ---- text -------------------------------------------------------------------------------------
 */

struct text {
    char *bytes;
    size_t room;
    size_t length; /* of all of it, however much had room */
};

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...) {
    const size_t left = text->length < text->room ? text->room - text->length : 0;
    va_list arguments;
    va_start(arguments, format);
    const int count =
        vsnprintf(left > 0 ? text->bytes + text->length : NULL, left, format, arguments);
    va_end(arguments);
    text->length += count > 0 ? (size_t)count : 0;
}

/* The value of a label: names are printable characters of ASCII. */
static void put_label(struct text *text, const char *name, const char *value) {
    put(text, "%s=\"", name);
    for (; *value != '\0'; value++) {
        put(text, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    }
    put(text, "\"");
}

/* The number tells apart what has the same name. */
static void put_service(struct text *text, const sr_service *service) {
    put_label(text, "service", service->name);
    put(text, ",number=\"%u\"", service->number);
}

/* Not by %f: its point is a matter of the program's locale. */
static void put_seconds(struct text *text, uint64_t ns) {
    put(text, "%llu.%09llu", (unsigned long long)(ns / 1000000000u),
        (unsigned long long)(ns % 1000000000u));
}

static void put_head(struct text *text, const char *name, const char *type, const char *help) {
    put(text, "# HELP safering_%s %s\n# TYPE safering_%s %s\n", name, help, name, type);
}

/* ---- of services ------------------------------------------------------------------------------
 */

struct family {
    const char *name;
    const char *type;
    const char *help;
    size_t offset; /* in sr_service_stats */
    bool is_wide;  /* 64 bits */
};

#define COUNTER(field, name, help)                                                                 \
    { name, "counter", help, offsetof(sr_service_stats, field), true }
#define GAUGE(field, name, help)                                                                   \
    { name, "gauge", help, offsetof(sr_service_stats, field), false }

static const struct family families[] = {
    COUNTER(calls, "service_calls_total", "Calls made."),
    COUNTER(answers, "service_answers_total", "Calls that methods answered."),
    COUNTER(failures, "service_failures_total", "Calls that the service answered itself."),
    COUNTER(retries, "service_retries_total", "Calls that were given to another worker."),
    COUNTER(events, "service_events_total", "Events of workers."),
    COUNTER(starts, "service_worker_starts_total", "Workers started."),
    COUNTER(restarts, "service_worker_restarts_total", "Of these, for one that ended unasked."),
    COUNTER(ends_unasked, "service_worker_ends_unasked_total", "Workers that ended unasked."),
    COUNTER(kills_stuck, "service_worker_kills_stuck_total", "Workers killed as stuck."),
    COUNTER(recycled, "service_workers_recycled_total", "Workers replaced by their age."),
    COUNTER(reloads, "service_reloads_total", "Reloads that succeeded."),
    GAUGE(calls_in_flight, "service_calls_in_flight", "Calls without an answer."),
    GAUGE(calls_waiting, "service_calls_waiting", "Of these, calls that wait for a worker."),
    GAUGE(workers, "service_workers", "Processes of workers."),
    GAUGE(workers_ready, "service_workers_ready", "Workers that are ready, spares included."),
    GAUGE(version, "service_version", "Version that takes calls."),
    GAUGE(state, "service_state", "1: starting, 2: running, 3: down."),
};

static uint64_t value_of(const sr_service_stats *stats, const struct family *family) {
    const char *field = (const char *)stats + family->offset;
    uint64_t wide = 0;
    uint32_t narrow = 0;
    if (family->is_wide) {
        memcpy(&wide, field, sizeof wide);
        return wide;
    }
    memcpy(&narrow, field, sizeof narrow);
    return narrow;
}

static void put_family(struct text *text, const sr_supervisor *supervisor,
                       const struct family *family) {
    put_head(text, family->name, family->type, family->help);
    for (sr_service *service = supervisor->services; service != NULL; service = service->next) {
        sr_service_stats stats = SR_SERVICE_STATS_INIT;
        const int code = sr_service_get_stats(service, &stats);
        SR_CHECK(code == 0);
        put(text, "safering_%s{", family->name);
        put_service(text, service);
        put(text, "} %llu\n", (unsigned long long)value_of(&stats, family));
    }
}

/* ---- of methods -------------------------------------------------------------------------------
 */

static void put_method(struct text *text, const char *name, const char *suffix,
                       const sr_service *service, const struct sri_service_method *method) {
    put(text, "safering_%s%s{", name, suffix);
    put_service(text, service);
    put(text, ",");
    put_label(text, "method", method->name);
}

struct method_family {
    const char *name;
    const char *help;
    size_t offset; /* of a counter in struct sri_service_method; TIMES: its histogram */
};

#define TIMES SIZE_MAX

static const struct method_family method_families[] = {
    {"method_failures_total", "Calls of the method that the service answered itself.",
     offsetof(struct sri_service_method, failures)},
    {"method_bytes_sent_total", "Payloads of calls.",
     offsetof(struct sri_service_method, bytes_sent)},
    {"method_bytes_received_total", "Payloads of answers.",
     offsetof(struct sri_service_method, bytes_received)},
    {"method_seconds", "From a call to its answer, waiting for a worker included.", TIMES},
};

static void put_count(struct text *text, const struct method_family *family,
                      const sr_service *service, const struct sri_service_method *method) {
    uint64_t count = 0;
    memcpy(&count, (const char *)method + family->offset, sizeof count);
    put_method(text, family->name, "", service, method);
    put(text, "} %llu\n", (unsigned long long)count);
}

static void put_times(struct text *text, const char *name, const sr_service *service,
                      const struct sri_service_method *method) {
    const struct sri_histogram *times = &method->times;
    uint64_t count = 0;
    for (uint32_t i = 0; i + 1 < SRI_HISTOGRAM_BUCKETS; i++) {
        count += times->counts[i];
        put_method(text, name, "_bucket", service, method);
        put(text, ",le=\"");
        put_seconds(text, sri_histogram_limit_ns(i));
        put(text, "\"} %llu\n", (unsigned long long)count);
    }
    put_method(text, name, "_bucket", service, method);
    put(text, ",le=\"+Inf\"} %llu\n", (unsigned long long)times->count);
    put_method(text, name, "_sum", service, method);
    put(text, "} ");
    put_seconds(text, times->sum_ns);
    put(text, "\n");
    put_method(text, name, "_count", service, method);
    put(text, "} %llu\n", (unsigned long long)times->count);
}

static void put_methods(struct text *text, const sr_supervisor *supervisor,
                        const struct method_family *family) {
    put_head(text, family->name, family->offset == TIMES ? "histogram" : "counter", family->help);
    for (const sr_service *service = supervisor->services; service != NULL;
         service = service->next) {
        for (uint32_t i = 0; i < service->method_count; i++) {
            if (family->offset == TIMES) {
                put_times(text, family->name, service, &service->methods[i]);
            } else {
                put_count(text, family, service, &service->methods[i]);
            }
        }
    }
}

int64_t sr_supervisor_metrics(sr_supervisor *supervisor, char *text, size_t room) {
    int code = sri_supervisor_check(supervisor);
    if (code == 0 && text == NULL && room > 0) {
        code = -EINVAL;
    }
    if (code < 0) {
        return SRI_MISUSE(code, 0);
    }
    struct text out = {.bytes = text, .room = room};
    if (room > 0) {
        text[0] = '\0';
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        put_family(&out, supervisor, &families[i]);
    }
    for (size_t i = 0; i < sizeof method_families / sizeof method_families[0]; i++) {
        put_methods(&out, supervisor, &method_families[i]);
    }
    return (int64_t)out.length;
}
