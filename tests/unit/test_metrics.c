/* SPDX-License-Identifier: MIT */
/* What services tell of themselves: times of methods, and the text for Prometheus, which is read
 * here by its rules. */
#include "ipc/histogram.h"
#include "support/launch.h"
#include "unit/service_host.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(metrics, .timeout = 60);

/* ---- histograms -------------------------------------------------------------------------------
 */

Test(metrics, each_time_is_in_the_bucket_of_its_limit) {
    for (uint32_t i = 0; i + 1 < SRI_HISTOGRAM_BUCKETS; i++) {
        struct sri_histogram histogram = {0};
        const uint64_t limit_ns = sri_histogram_limit_ns(i);
        sri_histogram_add(&histogram, limit_ns);
        cr_assert_eq(histogram.counts[i], 1, "%zu is not in bucket %u", (size_t)limit_ns, i);
        sri_histogram_add(&histogram, limit_ns + 1);
        cr_assert_eq(histogram.counts[i + 1], 1, "%zu + 1", (size_t)limit_ns);
    }
    struct sri_histogram histogram = {0};
    sri_histogram_add(&histogram, 0);
    sri_histogram_add(&histogram, 1);
    sri_histogram_add(&histogram, UINT64_MAX);
    cr_assert_eq(histogram.counts[0], 2);
    cr_assert_eq(histogram.counts[SRI_HISTOGRAM_BUCKETS - 1], 1);
    cr_assert_eq(histogram.count, 3);
    cr_assert_eq(histogram.max_ns, UINT64_MAX);
}

Test(metrics, quantiles_are_limits_that_enough_are_below) {
    struct sri_histogram histogram = {0};
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 500), 0, "there is none");
    for (int i = 0; i < 989; i++) {
        sri_histogram_add(&histogram, 1500);
    }
    for (int i = 0; i < 10; i++) {
        sri_histogram_add(&histogram, 100000);
    }
    sri_histogram_add(&histogram, 5000000);
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 500), 2048);
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 989), 2048);
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 990), 131072);
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 999), 131072);
    cr_assert_eq(sri_histogram_quantile_ns(&histogram, 1000), 5000000, "the longest itself");
    cr_assert_eq(histogram.sum_ns, 989 * UINT64_C(1500) + 10 * UINT64_C(100000) + 5000000);
}

/* ---- a host -----------------------------------------------------------------------------------
 */

static sr_service *service_of_name(const char *name) {
    sr_service_options options = host_serving(NULL);
    sr_service *service = NULL;
    const uint32_t ready = host.changes[SR_SERVICE_READY];
    options.name = name;
    assert_ok(sr_service_open(host.supervisor, &options, &service));
    UNTIL(host.changes[SR_SERVICE_READY] > ready);
    return service;
}

static void host_begin(const char *name) {
    host_open(NULL);
    host.service = service_of_name(name);
}

static uint32_t call(sr_service *service, const char *name, const void *data, uint64_t data_bytes) {
    sr_service_request request = SR_SERVICE_REQUEST_INIT;
    const uint32_t answers = host.answer_count;
    assert_ok(sr_service_method(service, name, &request.method));
    request.data = data;
    request.data_bytes = data_bytes;
    request.on_answer = host_on_answer;
    assert_ok(sr_service_call(service, &request, NULL));
    UNTIL(host.answer_count > answers);
    return request.method;
}

/* ---- one method -------------------------------------------------------------------------------
 */

Test(metrics, a_method_has_counts_and_times_of_its_own) {
    sr_method_stats stats = SR_METHOD_STATS_INIT;
    const uint32_t ms = 20;
    uint32_t echo = 0;
    host_begin(NULL);
    for (int i = 0; i < 10; i++) {
        echo = call(host.service, "echo", "12345", 5);
    }
    const uint32_t pause = call(host.service, "pause", &ms, sizeof ms);
    const uint32_t crash = call(host.service, "crash", NULL, 0);
    assert_ok(sr_service_get_method_stats(host.service, echo, &stats));
    cr_assert_eq(stats.answers, 10);
    cr_assert_eq(stats.failures, 0);
    cr_assert_eq(stats.bytes_sent, 50);
    cr_assert_eq(stats.bytes_received, 50);
    cr_assert(stats.p50_ns > 0 && stats.p50_ns <= stats.p99_ns && stats.p99_ns <= stats.p999_ns);
    cr_assert_leq(stats.p999_ns, stats.max_ns);
    cr_assert(stats.max_ns <= stats.sum_ns && stats.sum_ns <= 10 * stats.max_ns);
    assert_ok(sr_service_get_method_stats(host.service, pause, &stats));
    cr_assert_eq(stats.answers, 1);
    cr_assert_geq(stats.max_ns, 20 * MS);
    cr_assert_eq(stats.sum_ns, stats.max_ns);
    assert_ok(sr_service_get_method_stats(host.service, crash, &stats));
    cr_assert_eq(stats.answers, 0);
    cr_assert_eq(stats.failures, 1);
    assert_code(sr_service_get_method_stats(host.service, 99, &stats), SR_E_BOUNDS);
    assert_misuse("sr_service_get_method_stats", SR_E_BOUNDS);
    host_end();
}

/* ---- the text ---------------------------------------------------------------------------------
 */

struct reader {
    char family[128]; /* whose samples follow */
    bool is_histogram;
    uint32_t families;
    uint32_t samples;
    uint64_t bucket_count; /* of the histogram that is being read: may not go down */
};

/* "name{label="value",...} value": returns where the value begins. */
static const char *check_sample(struct reader *reader, const char *line) {
    const size_t name_length = strcspn(line, "{ ");
    const size_t family_length = strlen(reader->family);
    cr_assert(name_length >= family_length && strncmp(line, reader->family, family_length) == 0,
              "a sample of another family: %s", line);
    const char *suffix = line + family_length;
    const size_t suffix_length = name_length - family_length;
    cr_assert(suffix_length == 0 || (reader->is_histogram &&
                                     ((suffix_length == 7 && strncmp(suffix, "_bucket", 7) == 0) ||
                                      (suffix_length == 4 && strncmp(suffix, "_sum", 4) == 0) ||
                                      (suffix_length == 6 && strncmp(suffix, "_count", 6) == 0))),
              "%s", line);
    const char *at = line + name_length;
    cr_assert_eq(*at, '{');
    do {
        at++;
        at += strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        cr_assert(at[0] == '=' && at[1] == '"', "%s", line);
        for (at += 2; *at != '"'; at++) {
            cr_assert_neq(*at, '\0', "%s", line);
            at += *at == '\\';
        }
        at++;
    } while (*at == ',');
    cr_assert(at[0] == '}' && at[1] == ' ', "%s", line);
    reader->samples++;
    return at + 2;
}

static void check_bucket(struct reader *reader, const char *line, uint64_t value) {
    const char *limit = strstr(line, "le=\"");
    if (strstr(line, "_bucket{") != NULL) {
        cr_assert_not_null(limit, "%s", line);
        cr_assert_geq(value, reader->bucket_count, "%s", line);
        reader->bucket_count = value;
    } else if (strstr(line, "_count{") != NULL) {
        cr_assert_eq(value, reader->bucket_count, "%s", line);
        reader->bucket_count = 0;
    }
}

static void read_line(struct reader *reader, const char *line) {
    char type[32];
    if (strncmp(line, "# HELP ", 7) == 0) {
        cr_assert_eq(sscanf(line, "# HELP %127s", reader->family), 1);
        return;
    }
    if (strncmp(line, "# TYPE ", 7) == 0) {
        char name[128];
        cr_assert_eq(sscanf(line, "# TYPE %127s %31s", name, type), 2);
        cr_assert_str_eq(name, reader->family);
        reader->is_histogram = strcmp(type, "histogram") == 0;
        cr_assert(reader->is_histogram || strcmp(type, "counter") == 0 ||
                  strcmp(type, "gauge") == 0);
        reader->families++;
        reader->bucket_count = 0;
        return;
    }
    const char *value = check_sample(reader, line);
    cr_assert_eq(value[strspn(value, "0123456789.")], '\0', "not a number: %s", line);
    if (reader->is_histogram) {
        check_bucket(reader, line, strtoull(value, NULL, 10));
    }
}

static char *metrics(void) {
    const int64_t length = sr_supervisor_metrics(host.supervisor, NULL, 0);
    cr_assert_gt(length, 0);
    char *text = malloc((size_t)length + 1);
    cr_assert_not_null(text);
    cr_assert_eq(sr_supervisor_metrics(host.supervisor, text, (size_t)length + 1), length);
    cr_assert_eq(strlen(text), (size_t)length);
    return text;
}

static void expect_line(const char *text, const char *line) {
    const char *at = strstr(text, line);
    cr_assert(at != NULL && at[strlen(line)] == '\n', "'%s' is not in:\n%s", line, text);
}

Test(metrics, the_text_is_as_prometheus_reads_it) {
    host_begin("main");
    sr_service *second = service_of_name("a \"quoted\" \\ name");
    sr_service *third = service_of_name("main");
    (void)call(host.service, "echo", "12345", 5);
    (void)call(host.service, "echo", NULL, 0);
    (void)call(host.service, "crash", NULL, 0);
    (void)call(second, "echo", NULL, 0);
    char *text = metrics();
    struct reader reader = {0};
    char *copy = strdup(text);
    char *rest = copy;
    for (const char *line = NULL; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
        read_line(&reader, line);
    }
    cr_assert_eq(text[strlen(text) - 1], '\n');
    cr_assert_eq(reader.families, 21);
    /* Three services in 17 families; three methods in three, and with 29 lines in one. */
    cr_assert_eq(reader.samples, 3 * 17 + 3 * 3 + 3 * 29);
    expect_line(text, "safering_service_calls_total{service=\"main\",number=\"1\"} 3");
    expect_line(text, "safering_service_failures_total{service=\"main\",number=\"1\"} 1");
    expect_line(text, "safering_service_calls_total{service=\"main\",number=\"3\"} 0");
    expect_line(text, "safering_service_calls_total{service=\"a \\\"quoted\\\" \\\\ "
                      "name\",number=\"2\"} 1");
    expect_line(text, "safering_method_bytes_sent_total{service=\"main\",number=\"1\",method="
                      "\"echo\"} 5");
    expect_line(text, "safering_method_failures_total{service=\"main\",number=\"1\",method="
                      "\"crash\"} 1");
    expect_line(text,
                "safering_method_seconds_bucket{service=\"main\",number=\"1\",method=\"echo\","
                "le=\"+Inf\"} 2");
    expect_line(text, "safering_method_seconds_bucket{service=\"main\",number=\"1\",method="
                      "\"crash\",le=\"0.000001024\"} 0");
    free(copy);
    free(text);
    assert_ok(sr_service_close(&second));
    assert_ok(sr_service_close(&third));
    host_end();
}

Test(metrics, a_text_that_has_no_room_ends_where_there_is_none) {
    char small[100];
    host_begin("main");
    char *text = metrics();
    memset(small, 'x', sizeof small);
    cr_assert_eq(sr_supervisor_metrics(host.supervisor, small, 50), (int64_t)strlen(text));
    cr_assert_eq(strlen(small), 49);
    cr_assert_eq(strncmp(small, text, 49), 0);
    cr_assert_eq(small[50], 'x');
    assert_code((int)sr_supervisor_metrics(host.supervisor, NULL, 1), -EINVAL);
    free(text);
    host_end();
}

Test(metrics, names_are_what_can_be_printed) {
    const char *const bad[] = {"", "a\nb", "\x80",
                               "0123456789012345678901234567890123456789012345678901234567890123"};
    host_begin("012345678901234567890123456789012345678901234567890123456789012");
    char *text = metrics();
    cr_assert_not_null(strstr(text, "service=\"0123456789"));
    free(text);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        sr_service_options options = service_options(NULL);
        sr_service *service = NULL;
        options.name = bad[i];
        assert_code(sr_service_open(host.supervisor, &options, &service), -EINVAL);
    }
    host_end();
    host_begin(NULL); /* that of the program */
    text = metrics();
    cr_assert_not_null(strstr(text, "service=\"serving\""));
    free(text);
    host_end();
}
