/* SPDX-License-Identifier: MIT */
#include "ipc/sandbox_policy.h"

#include <errno.h>
#include <safering/error.h>
#include <stddef.h>
#include <string.h>

/* What a worker cannot do without lies in the layers that every kernel of ours has; the others make
 * the fence higher where they can be had. */
#define BEST_EFFORT                                                                                \
    (SRI_SANDBOX_BIT(USER_NAMESPACE) | SRI_SANDBOX_BIT(NETWORK_NAMESPACE) |                        \
     SRI_SANDBOX_BIT(IPC_NAMESPACE) | SRI_SANDBOX_BIT(PID_NAMESPACE) |                             \
     SRI_SANDBOX_BIT(PROCESSES) | SRI_SANDBOX_BIT(TCP) | SRI_SANDBOX_BIT(SCOPE))

#define AGAINST_NETWORK (SRI_SANDBOX_BIT(NETWORK_NAMESPACE) | SRI_SANDBOX_BIT(TCP))

/* Filters and Landlock are for who gives up to gain (seccomp(2), landlock_restrict_self(2)). */
#define ON_NO_NEW_PRIVILEGES                                                                       \
    (SRI_SANDBOX_BIT(CAPABILITIES) | SRI_SANDBOX_BIT(FILES) | SRI_SANDBOX_BIT(TCP) |               \
     SRI_SANDBOX_BIT(SCOPE) | SRI_SANDBOX_BIT(CALLS) | SRI_SANDBOX_BIT(NO_NEW_CODE))

/* It goes from process to process as it lies in memory, so there are no bytes that nobody set. */
_Static_assert(sizeof(struct sri_sandbox_policy) ==
                   12 * sizeof(uint32_t) + 2 * sizeof(uint64_t) + SRI_SANDBOX_PATH_BYTES +
                       SRI_SANDBOX_PATHS_MAX * (sizeof(uint32_t) + SRI_SANDBOX_PATH_BYTES) +
                       SRI_SANDBOX_NAMES_MAX * SRI_SANDBOX_NAME_BYTES +
                       SRI_SANDBOX_FDS_MAX * sizeof(int32_t),
               "a policy has no padding");

static const struct {
    enum sri_sandbox_step step;
    const char *text;
} layers[SRI_SANDBOX_LAYER_COUNT] = {
#define ROW(name, when, what) [SRI_SANDBOX_##name] = {SRI_SANDBOX_##when, what},
    SRI_SANDBOX_LAYERS(ROW)
#undef ROW
};

_Static_assert(SRI_SANDBOX_LAYER_COUNT <= 32, "layers are bits of 32");

const char *sri_sandbox_layer_text(enum sri_sandbox_layer layer) {
    const uint32_t index = (uint32_t)layer;
    return index < SRI_SANDBOX_LAYER_COUNT ? layers[index].text : "none";
}

enum sri_sandbox_step sri_sandbox_layer_step(enum sri_sandbox_layer layer) {
    const uint32_t index = (uint32_t)layer;
    return index < SRI_SANDBOX_LAYER_COUNT ? layers[index].step : SRI_SANDBOX_STEP_COUNT;
}

/* ---- validity -------------------------------------------------------------------------------- */

/* A string that ends inside of its array and is not empty. */
static bool is_text(const char *text, size_t size_bytes) {
    return text[0] != '\0' && memchr(text, '\0', size_bytes) != NULL;
}

static bool is_path(const char *path) {
    return is_text(path, SRI_SANDBOX_PATH_BYTES) && path[0] == '/';
}

static bool is_name(const char *name) {
    return is_text(name, SRI_SANDBOX_NAME_BYTES) && strchr(name, '=') == NULL;
}

static bool layers_are_valid(const struct sri_sandbox_policy *policy) {
    const uint32_t asked = policy->layers_asked;
    if ((asked & ~SRI_SANDBOX_ALL) != 0 || (policy->layers_required & ~asked) != 0) {
        return false;
    }
    if ((asked & ON_NO_NEW_PRIVILEGES) != 0 && (asked & SRI_SANDBOX_BIT(NO_NEW_PRIVILEGES)) == 0) {
        return false;
    }
    /* Without the list of calls there are other ways to new code. */
    if ((asked & SRI_SANDBOX_BIT(NO_NEW_CODE)) != 0 && (asked & SRI_SANDBOX_BIT(CALLS)) == 0) {
        return false;
    }
    return policy->network == 0 || (policy->network == 1 && (asked & AGAINST_NETWORK) == 0);
}

bool sri_sandbox_policy_is_valid(const struct sri_sandbox_policy *policy) {
    if (policy == NULL || policy->magic != SRI_SANDBOX_MAGIC || policy->reserved != 0 ||
        policy->umask > 0777 || policy->path_count > SRI_SANDBOX_PATHS_MAX ||
        policy->name_count > SRI_SANDBOX_NAMES_MAX || policy->fd_count > SRI_SANDBOX_FDS_MAX ||
        !layers_are_valid(policy) || !is_path(policy->directory)) {
        return false;
    }
    for (uint32_t i = 0; i < policy->path_count; i++) {
        if (policy->paths[i].may_write > 1 || !is_path(policy->paths[i].name)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < policy->name_count; i++) {
        if (!is_name(policy->names[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < policy->fd_count; i++) {
        if (policy->fds[i] < 0) {
            return false;
        }
    }
    return true;
}

/* ---- making one ------------------------------------------------------------------------------ */

void sri_sandbox_policy_none(struct sri_sandbox_policy *out_policy) {
    memset(out_policy, 0, sizeof *out_policy);
    out_policy->magic = SRI_SANDBOX_MAGIC;
    out_policy->umask = 022;
    out_policy->directory[0] = '/';
}

/* Names that say how text and time are written, and where programs are; nothing that a loader or an
 * allocator listens to, and no secrets. */
static void policy_strict(struct sri_sandbox_policy *out_policy) {
    static const char *const names[] = {"LANG", "LC_ALL", "LC_CTYPE", "PATH", "TZ"};
    sri_sandbox_policy_none(out_policy);
    out_policy->layers_asked = SRI_SANDBOX_ALL;
    out_policy->layers_required = SRI_SANDBOX_ALL & ~BEST_EFFORT;
    out_policy->umask = 077;
    out_policy->memory_bytes = SRI_SANDBOX_MEMORY_BYTES;
    out_policy->file_bytes = SRI_SANDBOX_FILE_BYTES;
    out_policy->files_max = SRI_SANDBOX_FILES_MAX;
    out_policy->processes_max = SRI_SANDBOX_PROCESSES_MAX;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        strcpy(out_policy->names[i], names[i]); /* the longest has 8 letters */
        out_policy->name_count++;
    }
}

/* @length bytes of @path, which may go on. */
static int add_path(struct sri_sandbox_policy *policy, const char *path, size_t length,
                    bool may_write) {
    if (length == 0 || path[0] != '/') {
        return -EINVAL;
    }
    if (length >= SRI_SANDBOX_PATH_BYTES) {
        return SR_E_BOUNDS;
    }
    if (policy->path_count == SRI_SANDBOX_PATHS_MAX) {
        return SR_E_FULL;
    }
    struct sri_sandbox_path *added = &policy->paths[policy->path_count++];
    memcpy(added->name, path, length);
    added->name[length] = '\0';
    added->may_write = may_write ? 1 : 0;
    return 0;
}

int sri_sandbox_policy_add_path(struct sri_sandbox_policy *policy, const char *path,
                                bool may_write) {
    if (!sri_sandbox_policy_is_valid(policy) || path == NULL) {
        return -EINVAL;
    }
    return add_path(policy, path, strlen(path), may_write);
}

int sri_sandbox_policy_add_name(struct sri_sandbox_policy *policy, const char *name) {
    if (!sri_sandbox_policy_is_valid(policy) || name == NULL || name[0] == '\0' ||
        strchr(name, '=') != NULL) {
        return -EINVAL;
    }
    if (strlen(name) >= SRI_SANDBOX_NAME_BYTES) {
        return SR_E_BOUNDS;
    }
    if (policy->name_count == SRI_SANDBOX_NAMES_MAX) {
        return SR_E_FULL;
    }
    strcpy(policy->names[policy->name_count++], name); /* its length has been looked at */
    return 0;
}

int sri_sandbox_policy_add_fd(struct sri_sandbox_policy *policy, int fd) {
    if (!sri_sandbox_policy_is_valid(policy) || fd < 0) {
        return -EINVAL;
    }
    if (policy->fd_count == SRI_SANDBOX_FDS_MAX) {
        return SR_E_FULL;
    }
    policy->fds[policy->fd_count++] = fd;
    return 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_word(const char *word, size_t length, const char *expected) {
    return length == strlen(expected) && memcmp(word, expected, length) == 0;
}

/* What follows @prefix in @word, or NULL if that is not how it begins. */
static const char *after_prefix(const char *word, size_t length, const char *prefix) {
    const size_t prefix_length = strlen(prefix);
    const bool begins = length >= prefix_length && memcmp(word, prefix, prefix_length) == 0;
    return begins ? word + prefix_length : NULL;
}

/* A number, for a size with its unit. 0, and in *out_value 0 for `unlimited`; or a code. */
static int read_number(const char *text, size_t length, bool is_size, uint64_t max,
                       uint64_t *out_value) {
    uint64_t value = 0;
    size_t i = 0;
    *out_value = 0;
    if (is_word(text, length, "unlimited")) {
        return 0;
    }
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) {
        if (value > max / 10) {
            return SR_E_BOUNDS;
        }
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    const size_t digits = i;
    const uint32_t shift = !is_size || i + 1 != length ? 0
                           : text[i] == 'K'            ? 10
                           : text[i] == 'M'            ? 20
                           : text[i] == 'G'            ? 30
                                                       : 0;
    i += shift != 0;
    if (digits == 0 || i != length) {
        return -EINVAL;
    }
    if (value == 0 || value > max >> shift) {
        return SR_E_BOUNDS;
    }
    *out_value = value << shift;
    return 0;
}

struct limit_word {
    const char *prefix;
    bool is_size;  /* of 64 bits; else a number of 32 */
    size_t offset; /* in the policy */
};

static const struct limit_word limit_words[] = {
    {"memory=", true, offsetof(struct sri_sandbox_policy, memory_bytes)},
    {"file=", true, offsetof(struct sri_sandbox_policy, file_bytes)},
    {"cpu=", false, offsetof(struct sri_sandbox_policy, cpu_s)},
    {"descriptors=", false, offsetof(struct sri_sandbox_policy, files_max)},
    {"processes=", false, offsetof(struct sri_sandbox_policy, processes_max)},
};

static void set_limit(struct sri_sandbox_policy *policy, const struct limit_word *word,
                      uint64_t value) {
    uint8_t *field = (uint8_t *)policy + word->offset;
    const uint32_t small = (uint32_t)value;
    if (word->is_size) {
        memcpy(field, &value, sizeof value);
    } else {
        memcpy(field, &small, sizeof small);
    }
}

/* 0; 1: the word is about something else; or a code. */
static int take_limit(struct sri_sandbox_policy *policy, const char *word, size_t length) {
    for (size_t i = 0; i < sizeof limit_words / sizeof limit_words[0]; i++) {
        const char *text = after_prefix(word, length, limit_words[i].prefix);
        if (text == NULL) {
            continue;
        }
        uint64_t value = 0;
        const uint64_t max = limit_words[i].is_size ? (uint64_t)INT64_MAX : (uint64_t)INT32_MAX;
        const int code =
            read_number(text, (size_t)(word + length - text), limit_words[i].is_size, max, &value);
        if (code == 0) {
            set_limit(policy, &limit_words[i], value);
        }
        return code;
    }
    return 1;
}

static int take_word(struct sri_sandbox_policy *policy, const char *word, size_t length) {
    const char *end = word + length;
    const char *read_only = after_prefix(word, length, "path-ro=");
    const char *read_write = after_prefix(word, length, "path-rw=");
    if (read_only != NULL) {
        return add_path(policy, read_only, (size_t)(end - read_only), false);
    }
    if (read_write != NULL) {
        return add_path(policy, read_write, (size_t)(end - read_write), true);
    }
    if (is_word(word, length, "network")) {
        policy->network = 1;
        policy->layers_asked &= ~AGAINST_NETWORK;
        policy->layers_required &= ~AGAINST_NETWORK;
        return 0;
    }
    if (is_word(word, length, "strict")) {
        return 0;
    }
    const int code = take_limit(policy, word, length);
    return code <= 0 ? code : -EINVAL;
}

int sri_sandbox_policy_parse(const char *text, struct sri_sandbox_policy *out_policy,
                             uint32_t *out_position) {
    memset(out_policy, 0, sizeof *out_policy);
    *out_position = 0;
    if (text == NULL) {
        return -EINVAL;
    }
    struct sri_sandbox_policy policy;
    if (is_word(text, strlen(text), "none")) {
        sri_sandbox_policy_none(out_policy);
        return 0;
    }
    policy_strict(&policy);
    for (const char *word = text;;) {
        const size_t length = strcspn(word, ",");
        const int code = take_word(&policy, word, length);
        if (code != 0) {
            *out_position = (uint32_t)(word - text);
            return code;
        }
        if (word[length] == '\0') {
            break;
        }
        word += length + 1;
    }
    *out_policy = policy;
    return 0;
}

/* ---- environment ----------------------------------------------------------------------------- */

static bool lets_through(const struct sri_sandbox_policy *policy, const char *string) {
    if (policy->layers_asked == 0) {
        return true;
    }
    for (uint32_t i = 0; i < policy->name_count; i++) {
        const size_t length = strlen(policy->names[i]);
        if (strncmp(string, policy->names[i], length) == 0 && string[length] == '=') {
            return true;
        }
    }
    return false;
}

int sri_sandbox_environment(const struct sri_sandbox_policy *policy, char *const *environment,
                            char **out_environment, uint32_t room) {
    uint32_t count = 0;
    if (!sri_sandbox_policy_is_valid(policy)) {
        return -EINVAL;
    }
    for (; *environment != NULL; environment++) {
        if (!lets_through(policy, *environment)) {
            continue;
        }
        if (count + 1 >= room) {
            return SR_E_FULL;
        }
        out_environment[count++] = *environment;
    }
    if (room == 0 || count > INT32_MAX) {
        return SR_E_FULL;
    }
    out_environment[count] = NULL;
    return (int)count;
}

/* ---- report ---------------------------------------------------------------------------------- */

void sri_sandbox_report_init(struct sri_sandbox_report *out_report) {
    memset(out_report, 0, sizeof *out_report);
    out_report->failed_layer = SRI_SANDBOX_LAYER_COUNT;
    out_report->failed_path = SRI_SANDBOX_PATHS_MAX;
}

void sri_sandbox_report_merge(struct sri_sandbox_report *report,
                              const struct sri_sandbox_report *other) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        if (report->layers[i].state == SRI_SANDBOX_NOT_ASKED) {
            report->layers[i] = other->layers[i];
        }
    }
    if (report->failed_layer == SRI_SANDBOX_LAYER_COUNT) {
        report->failed_layer = other->failed_layer;
        report->failed_path = other->failed_path;
    }
}

bool sri_sandbox_report_is_valid(const struct sri_sandbox_report *report) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        const struct sri_sandbox_layer_report *layer = &report->layers[i];
        if (layer->state > SRI_SANDBOX_REFUSED ||
            (layer->state == SRI_SANDBOX_REFUSED ? layer->code >= 0 : layer->code != 0)) {
            return false;
        }
    }
    const uint32_t failed = report->failed_layer;
    return failed <= SRI_SANDBOX_LAYER_COUNT && report->failed_path <= SRI_SANDBOX_PATHS_MAX &&
           (failed == SRI_SANDBOX_LAYER_COUNT ||
            report->layers[failed].state == SRI_SANDBOX_REFUSED);
}

bool sri_sandbox_report_fits(const struct sri_sandbox_report *report,
                             const struct sri_sandbox_policy *policy, enum sri_sandbox_step first,
                             enum sri_sandbox_step last) {
    for (uint32_t i = 0; i < SRI_SANDBOX_LAYER_COUNT; i++) {
        const uint32_t state = report->layers[i].state;
        const uint32_t bit = UINT32_C(1) << i;
        const bool is_due = layers[i].step == first || layers[i].step == last;
        if (!is_due || (policy->layers_asked & bit) == 0) {
            if (state != SRI_SANDBOX_NOT_ASKED) {
                return false;
            }
        } else if (state == SRI_SANDBOX_NOT_ASKED ||
                   (state != SRI_SANDBOX_HOLDS && (policy->layers_required & bit) != 0)) {
            return false;
        }
    }
    return report->failed_layer == SRI_SANDBOX_LAYER_COUNT;
}
