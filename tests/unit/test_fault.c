/* SPDX-License-Identifier: MIT */
/*
 * What is said when the program touches what is lent, and who hears of the signal afterwards. Each
 * death happens in a child whose last words are read.
 */
#include "unit/fixture.h"

#include "buffer/lend.h"
#include "support/failing.h"
#include "support/valgrind.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE ((size_t)4096)

static sr_pool *pool_protected(size_t size_bytes, uint32_t count) {
    sr_pool_options options = SR_POOL_OPTIONS_INIT;
    sr_pool *pool = NULL;
    options.buffer_size_bytes = size_bytes;
    options.buffer_count = count;
    options.guard = SR_GUARD_PROTECT;
    assert_ok(sr_pool_create(NULL, &options, &pool));
    cr_assert_eq(pool_stats(pool).guard, SR_GUARD_PROTECT);
    return pool;
}

static void lend(sr_pool *pool, sr_buffer buffer, size_t begin, size_t end, bool writer,
                 struct sri_loan *loan) {
    void *memory = NULL;
    assert_ok(sri_loan_begin(pool, buffer.bits, begin, end - begin, writer, loan, &memory));
}

/* ---- the report -------------------------------------------------------------------------------
 */

struct scene {
    uint16_t op; /* SR_OP_READ: the kernel writes */
    bool slices;
    bool program_writes;
    bool handler;
    /* How the buffers reach the kernel; check_report() goes through all ways. */
    uint32_t backend;
    bool registered;
};

static void fill_pipe(int fd) {
    const char bytes[PAGE] = {0};
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    while (write(fd, bytes, sizeof bytes) > 0) {
    }
    cr_assert_eq(fcntl(fd, F_SETFL, 0), 0);
}

/* Prints what the report must name, then touches byte 4,196 of the buffer while the kernel has it.
 */
static void touch_in_flight(void *ctx) {
    const struct scene *scene = ctx;
    failing_install_before((enum sri_backend_kind)scene->backend);
    if (!scene->registered) {
        failing_refuse_registration();
    }
    sr_ring *ring = ring_make(NULL);
    sr_pool *pool = pool_protected(2 * PAGE, 2);
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    const int attached = sr_ring_attach_pool(ring, pool);
    if (scene->registered && attached == 0 && scene->backend == SR_BACKEND_URING) {
        fprintf(stderr, "cannot be registered\n");
        return;
    }
    cr_assert_eq(attached, scene->registered);
    sr_request request = request_of(scene->op);
    const sr_slice slices[2] = {{.buffer = buffer_take(pool), .length_bytes = 1},
                                {.buffer = buffer_take(pool), .length_bytes = 2 * PAGE}};
    const int end = scene->op == SR_OP_READ || scene->op == SR_OP_READV ? 0 : 1;
    if (end == 1) {
        fill_pipe(ends[1]); /* so that a write has to wait */
    }
    request.file = file_take(ring, ends[end]);
    request.buffer = slices[1].buffer;
    request.length = scene->slices ? 0 : 2 * PAGE;
    request.slices = scene->slices ? slices : NULL;
    request.slice_count = scene->slices ? 2 : 0;
    request.offset = SR_OFFSET_CURRENT;
    volatile unsigned char *bytes = buffer_bytes(pool, slices[1].buffer, 2 * PAGE);
    if (scene->handler) {
        assert_ok(sr_guard_install_fault_handler());
        assert_ok(sr_guard_install_fault_handler()); /* once more changes nothing */
    }
    const sr_op op = submit(ring, &request);
    fprintf(stderr, "expected: buffer 0x%llx, operation 0x%llx, descriptor %d\n",
            (unsigned long long)slices[1].buffer.bits, (unsigned long long)op.bits, ends[end]);
    cr_assert_eq(sr_ring_flush(ring), 1);
    (void)usleep(2000);
    cr_assert_eq(sr_ring_wait(ring, 0, 0, NULL, NULL), 0);
    if (scene->program_writes) {
        bytes[PAGE + 100] = 1;
    } else {
        (void)bytes[PAGE + 100];
    }
    fprintf(stderr, "alive\n");
}

/* The report in @words, or NULL. */
static const char *report_in(const char *words) {
    return strstr(words, "safering: the program ");
}

static void check_named(const char *words, const char *key, const char *text) {
    char wanted[64];
    const char *expected = strstr(words, "expected: ");
    cr_assert_not_null(expected, "%s", words);
    const char *value = strstr(expected, key);
    cr_assert_not_null(value, "%s", words);
    const size_t length = strcspn(value, ",\n");
    (void)snprintf(wanted, sizeof wanted, "%.*s", (int)length, value);
    cr_assert_not_null(strstr(text, wanted), "no '%s' in: %s", wanted, text);
}

static void check_report(struct scene scene, const char *verb, const char *range) {
    static struct child_end end;
    double age_s = -1;
    char opcode[32];
    child_run(touch_in_flight, &scene, &end);
    if (scene.backend == SR_BACKEND_URING && strstr(end.words, "cannot be registered") != NULL) {
        fprintf(stderr, "fault: no memory can be registered here\n");
        return;
    }
    cr_assert(end.died, "%s", end.words);
    cr_assert_null(strstr(end.words, "alive"));
    if (!FIXTURE_HAS_ASAN && !RUNNING_ON_VALGRIND) {
        cr_assert(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGSEGV,
                  "the signal's own end: %d", end.status);
    }
    const char *report = report_in(end.words);
    cr_assert_not_null(report, "%s", end.words);
    cr_assert_null(report_in(report + 1), "twice: %s", end.words);
    check_named(end.words, "buffer 0x", report);
    check_named(end.words, "operation 0x", report);
    check_named(end.words, "descriptor ", report);
    cr_assert_not_null(strstr(report, verb), "%s", report);
    cr_assert_not_null(strstr(report, "byte 4196 of 8192"), "%s", report);
    cr_assert_not_null(strstr(report, range), "%s", report);
    (void)snprintf(opcode, sizeof opcode, "(opcode %d)", scene.op);
    cr_assert_not_null(strstr(report, opcode), "%s", report);
    const char *age = strstr(report, " s, ");
    cr_assert(age != NULL && sscanf(age, " s, %lf s ago", &age_s) == 1, "%s", report);
    cr_assert(age_s >= 0.002 && age_s < 60, "%f s", age_s);
}

/* Calls @check for the scene on both backends, with plain and with registered buffers. */
static void on_each_way(struct scene scene, void (*check)(struct scene scene)) {
    for (uint32_t way = 0; way < 4; way++) {
        scene.backend = way / 2 == 0 ? SR_BACKEND_FALLBACK : SR_BACKEND_URING;
        scene.registered = way % 2 == 1;
        if (backend_is_here(scene.backend)) {
            check(scene);
        }
    }
}

static void check_scene(struct scene scene) {
    const bool reads = scene.op == SR_OP_READ || scene.op == SR_OP_READV;
    check_report(scene, scene.program_writes ? "wrote to memory" : "read memory",
                 reads ? "which writes bytes 0 to 8191" : "which reads bytes 0 to 8191");
}

Test(fault, a_report_names_buffer_operation_descriptor_and_age) {
    static const struct scene scenes[] = {
        {.op = SR_OP_READ, .program_writes = true, .handler = true},
        {.op = SR_OP_READ, .program_writes = false, .handler = true},
        {.op = SR_OP_WRITE, .program_writes = true, .handler = true},
        {.op = SR_OP_READV, .slices = true, .program_writes = true, .handler = true},
        {.op = SR_OP_WRITEV, .slices = true, .program_writes = true, .handler = true},
    };
    for (size_t i = 0; i < COUNT_OF(scenes); i++) {
        on_each_way(scenes[i], check_scene);
    }
}

static void check_passes(struct scene scene) {
    static struct child_end end;
    child_run(touch_in_flight, &scene, &end);
    cr_assert_not(end.died, "%s", end.words);
    cr_assert_null(report_in(end.words), "%s", end.words);
    cr_assert(strstr(end.words, "alive") != NULL ||
                  strstr(end.words, "cannot be registered") != NULL,
              "%s", end.words);
}

Test(fault, the_program_may_read_what_the_kernel_reads) {
    const struct scene scene = {.op = SR_OP_WRITE, .handler = true};
    const struct scene vector = {.op = SR_OP_WRITEV, .slices = true, .handler = true};
    on_each_way(scene, check_passes);
    on_each_way(vector, check_passes);
}

static void check_silence(struct scene scene) {
    static struct child_end end;
    child_run(touch_in_flight, &scene, &end);
    if (strstr(end.words, "cannot be registered") == NULL) {
        cr_assert(end.died);
    }
    cr_assert_null(report_in(end.words), "%s", end.words);
}

Test(fault, without_the_handler_the_program_dies_and_nothing_is_said) {
    const struct scene scene = {.op = SR_OP_READ, .program_writes = true};
    on_each_way(scene, check_silence);
}

struct lender {
    uint32_t loan_count;
    uint32_t touched; /* loan */
    bool noted;
};

/* More loans of one buffer than are remembered. */
static void touch_one_of_many(void *ctx) {
    const struct lender *lender = ctx;
    struct sri_loan loans[16];
    sr_pool *pool = pool_protected(16 * PAGE, 1);
    const sr_buffer buffer = buffer_take(pool);
    volatile unsigned char *bytes = buffer_bytes(pool, buffer, 16 * PAGE);
    assert_ok(sr_guard_install_fault_handler());
    for (uint32_t i = 0; i < lender->loan_count; i++) {
        const struct sri_loan_note note = {.op = 0xabc0 + i, .submitted_ns = 1 + i, .fd = -1};
        lend(pool, buffer, i * PAGE, (i + 1) * PAGE, true, &loans[i]);
        if (lender->noted) {
            sri_loan_note(pool, &loans[i], &note);
        }
    }
    bytes[lender->touched * PAGE] = 1;
}

Test(fault, the_newest_loans_of_a_buffer_are_remembered) {
    static struct child_end end;
    for (uint32_t touched = 0; touched < 16; touched++) {
        char words[64];
        struct lender lender = {16, touched, true};
        child_run(touch_one_of_many, &lender, &end);
        cr_assert(end.died);
        cr_assert_not_null(report_in(end.words), "%s", end.words);
        if (touched < 16 - SRI_NOTES_PER_SLOT) {
            cr_assert_not_null(strstr(end.words, "operation is not known"), "%s", end.words);
            continue;
        }
        (void)snprintf(words, sizeof words, "operation 0x%x (opcode 0)", 0xabc0 + touched);
        cr_assert_not_null(strstr(end.words, words), "%s", end.words);
        (void)snprintf(words, sizeof words, "bytes %zu to %zu, submitted", touched * PAGE,
                       (touched + 1) * PAGE - 1);
        cr_assert_not_null(strstr(end.words, words), "%s", end.words);
        cr_assert_null(strstr(end.words, "descriptor"), "%s", end.words);
    }
}

Test(fault, a_loan_that_nobody_noted_is_reported_without_a_name) {
    static struct child_end end;
    struct lender lender = {2, 1, false};
    child_run(touch_one_of_many, &lender, &end);
    cr_assert(end.died);
    cr_assert_not_null(report_in(end.words), "%s", end.words);
    cr_assert_not_null(strstr(end.words, "to which operation is not known"), "%s", end.words);
}

static void touch_after_a_noted_loan(void *ctx) {
    const struct sri_loan_note note = {.op = 0xabc, .submitted_ns = 1, .fd = -1};
    struct sri_loan first;
    struct sri_loan second;
    (void)ctx;
    sr_pool *pool = pool_protected(PAGE, 1);
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    assert_ok(sr_guard_install_fault_handler());
    lend(pool, buffer, 0, PAGE, true, &first);
    sri_loan_note(pool, &first, &note);
    sri_loan_end(pool, &first, 0);
    lend(pool, buffer, 0, PAGE, true, &second);
    *(volatile unsigned char *)bytes = 1;
}

Test(fault, an_operation_that_has_ended_is_not_blamed) {
    static struct child_end end;
    child_run(touch_after_a_noted_loan, NULL, &end);
    cr_assert(end.died);
    cr_assert_not_null(strstr(end.words, "to which operation is not known"), "%s", end.words);
}

/* ---- who is next ------------------------------------------------------------------------------
 */

static void say(const char *words) {
    (void)!write(STDERR_FILENO, words, strlen(words));
}

/* Volatile: the handler must see them before the touch, whatever the optimiser thinks of the order.
 */
static unsigned char *volatile closed_page;
static unsigned char *volatile elsewhere;
static void *volatile address_expected;

/* A handler that mends: it opens the page, so that the program goes on. */
static void mend(int number, siginfo_t *info, void *context) {
    (void)context;
    say(number == SIGSEGV && info->si_addr == address_expected ? "previous handler\n" : "WRONG\n");
    (void)mprotect(elsewhere, PAGE, PROT_READ | PROT_WRITE);
    if (closed_page != NULL) {
        (void)mprotect(closed_page, PAGE, PROT_READ | PROT_WRITE);
    }
}

static void install_mender(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = mend;
    (void)sigemptyset(&action.sa_mask);
    cr_assert_eq(sigaction(SIGSEGV, &action, NULL), 0);
}

static void touch_at(unsigned char *where) {
    address_expected = where;
    *(volatile unsigned char *)where = 1;
}

static unsigned char *make_closed_page(void) {
    void *page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(page, MAP_FAILED);
    return page;
}

static void chain(void *ctx) {
    struct sri_loan loan;
    struct sigaction now;
    (void)ctx;
    elsewhere = make_closed_page();
    install_mender();
    sr_pool *pool = pool_protected(PAGE, 1);
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    assert_ok(sr_guard_install_fault_handler());
    touch_at(elsewhere);
    say("|"); /* not ours: handed on, and the handler is still there */
    lend(pool, buffer, 0, PAGE, true, &loan);
    closed_page = bytes;
    touch_at(bytes);
    say("|"); /* ours: reported, and then the previous handler met the fault itself */
    cr_assert_eq(sigaction(SIGSEGV, NULL, &now), 0);
    say(now.sa_sigaction == mend ? "given back\n" : "kept\n");
    /* Installed again, it reports again. */
    assert_ok(sr_guard_install_fault_handler());
    cr_assert_eq(mprotect(bytes, PAGE, PROT_NONE), 0);
    touch_at(bytes);
}

Test(fault, the_handler_that_was_there_before_meets_every_fault) {
    static struct child_end end;
    child_run(chain, NULL, &end);
    /* valgrind counts such a touch as an error, even if a handler mends it. */
    cr_assert(!end.died || RUNNING_ON_VALGRIND, "%s", end.words);
    const char *first = strchr(end.words, '|');
    cr_assert_not_null(first, "%s", end.words);
    cr_assert_eq(strncmp(end.words, "previous handler\n|", 18), 0, "%s", end.words);
    cr_assert_eq(strncmp(first + 1, "safering: the program wrote to", 30), 0, "%s", end.words);
    const char *second = strchr(first + 1, '|');
    cr_assert_not_null(second, "%s", end.words);
    cr_assert_eq(strncmp(second - 17, "previous handler\n", 17), 0, "%s", end.words);
    cr_assert_eq(strncmp(second, "|given back\nsafering: the program wrote to", 42), 0, "%s",
                 end.words);
    cr_assert_null(strstr(end.words, "WRONG"), "%s", end.words);
}

static volatile sig_atomic_t heard;

static void hear(int number) {
    heard = number;
}

struct sender {
    int number;
    bool with_handler;
    bool ignored;
};

static void send_to_self(void *ctx) {
    const struct sender *sender = ctx;
    struct sigaction now;
    (void)signal(sender->number, sender->ignored ? SIG_IGN : sender->with_handler ? hear : SIG_DFL);
    assert_ok(sr_guard_install_fault_handler());
    (void)raise(sender->number);
    cr_assert_eq(sigaction(sender->number, NULL, &now), 0);
    fprintf(stderr, "heard %d%s\n", (int)heard,
            now.sa_handler == SIG_IGN || now.sa_handler == hear ? ", and gone" : "");
}

Test(fault, signals_that_somebody_sent_are_handed_on) {
    static const int numbers[] = {SIGSEGV, SIGBUS};
    static struct child_end end;
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        char words[32];
        struct sender sender = {numbers[i], true, false};
        (void)snprintf(words, sizeof words, "heard %d\n", numbers[i]);
        child_run(send_to_self, &sender, &end);
        cr_assert_str_eq(end.words, words);
        sender = (struct sender){numbers[i], false, true};
        child_run(send_to_self, &sender, &end);
        cr_assert_str_eq(end.words, "heard 0\n");
        sender = (struct sender){numbers[i], false, false};
        child_run(send_to_self, &sender, &end);
        cr_assert(WIFSIGNALED(end.status) && WTERMSIG(end.status) == numbers[i], "%d: %s",
                  end.status, end.words);
        cr_assert_null(report_in(end.words), "%s", end.words);
    }
}

static void fault_elsewhere(void *ctx) {
    (void)ctx;
    (void)pool_protected(PAGE, 1);
    (void)signal(SIGSEGV, SIG_DFL);
    unsigned char *page = make_closed_page();
    assert_ok(sr_guard_install_fault_handler());
    touch_at(page);
}

Test(fault, a_fault_elsewhere_ends_the_program_as_ever) {
    static struct child_end end;
    child_run(fault_elsewhere, NULL, &end);
    cr_assert(WIFSIGNALED(end.status) && WTERMSIG(end.status) == SIGSEGV, "%d: %s", end.status,
              end.words);
    cr_assert_null(report_in(end.words), "%s", end.words);
}

/* Memory that fails cannot be had to order; its signal can. */
static void memory_fails(void *ctx) {
    siginfo_t info = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};
    (void)ctx;
    (void)signal(SIGBUS, hear);
    sr_pool *pool = pool_protected(PAGE, 2);
    info.si_addr = buffer_bytes(pool, buffer_take(pool), PAGE) + 7;
    assert_ok(sr_guard_install_fault_handler());
    cr_assert_eq(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info), 0);
}

Test(fault, memory_of_a_buffer_that_fails_is_reported_too) {
    static struct child_end end;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("valgrind does not hand such a signal on");
    }
    child_run(memory_fails, NULL, &end);
    cr_assert_not(end.died, "%s", end.words);
    cr_assert_not_null(strstr(end.words, "touched memory that failed: buffer 0x"), "%s", end.words);
    cr_assert_not_null(strstr(end.words, ", byte 7 of 4096"), "%s", end.words);
}

static char stack_of_handler[65536];

static void hear_on_stack(int number) {
    const char here = (char)number;
    const char *where = &here;
    say(where > stack_of_handler && where < stack_of_handler + sizeof stack_of_handler
            ? "alternate stack\n"
            : "WRONG\n");
}

static void handle_on_alternate_stack(void *ctx) {
    const stack_t stack = {.ss_sp = stack_of_handler, .ss_size = sizeof stack_of_handler};
    struct sigaction action = {.sa_flags = SA_ONSTACK};
    (void)ctx;
    action.sa_handler = hear_on_stack;
    cr_assert_eq(sigaltstack(&stack, NULL), 0);
    cr_assert_eq(sigaction(SIGSEGV, &action, NULL), 0);
    assert_ok(sr_guard_install_fault_handler());
    (void)raise(SIGSEGV);
}

Test(fault, it_runs_on_the_alternate_stack_of_threads_that_have_one) {
    static struct child_end end;
    if (FIXTURE_HAS_ASAN) {
        cr_skip_test("AddressSanitizer keeps locals elsewhere");
    }
    child_run(handle_on_alternate_stack, NULL, &end);
    cr_assert_str_eq(end.words, "alternate stack\n");
}

/* ---- whose memory ------------------------------------------------------------------------------
 */

/* Maps something closed at @ctx, where a pool was, and touches it. */
static void touch_what_is_there_now(void *ctx) {
    void *page =
        mmap(ctx, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    cr_assert_eq(page, ctx, "%s", strerror(errno));
    say("touching\n");
    touch_at(page);
}

Test(fault, what_is_mapped_where_a_pool_was_is_not_reported_on) {
    static struct child_end end;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("in a child valgrind's own list still has what MADV_DONTFORK kept back");
    }
    assert_ok(sr_guard_install_fault_handler());
    sr_pool *pool = pool_protected(PAGE, 1);
    void *bytes = buffer_bytes(pool, buffer_take(pool), PAGE);
    /* A forked child inherits the list of pools, but not their memory. */
    child_run(touch_what_is_there_now, bytes, &end);
    cr_assert(end.died);
    cr_assert_not_null(strstr(end.words, "touching"), "%s", end.words);
    cr_assert_null(report_in(end.words), "%s", end.words);
    pool_end(&pool);
    child_run(touch_what_is_there_now, bytes, &end);
    cr_assert(end.died);
    cr_assert_not_null(strstr(end.words, "touching"), "%s", end.words);
    cr_assert_null(report_in(end.words), "%s", end.words);
}

static void destroy_and_map_over(void *ctx) {
    (void)ctx;
    assert_ok(sr_guard_install_fault_handler());
    sr_pool *pool = pool_protected(PAGE, 1);
    void *bytes = buffer_bytes(pool, buffer_take(pool), PAGE);
    pool_end(&pool);
    touch_what_is_there_now(bytes);
}

static void make_many_one_after_the_other(void *ctx) {
    struct sri_loan loan;
    (void)ctx;
    assert_ok(sr_guard_install_fault_handler());
    for (uint32_t i = 0; i < SRI_FAULT_POOLS_MAX; i++) {
        sr_pool *gone = pool_protected(PAGE, 1);
        pool_end(&gone);
    }
    sr_pool *pool = pool_protected(PAGE, 64); /* begins where none of those was */
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    lend(pool, buffer, 0, PAGE, true, &loan);
    touch_at(bytes);
}

Test(fault, a_pool_that_is_gone_is_forgotten) {
    static struct child_end end;
    child_run(destroy_and_map_over, NULL, &end);
    cr_assert(end.died);
    cr_assert_not_null(strstr(end.words, "touching"), "%s", end.words);
    cr_assert_null(report_in(end.words), "%s", end.words);
    child_run(make_many_one_after_the_other, NULL, &end);
    cr_assert(end.died);
    cr_assert_not_null(report_in(end.words), "its place in the list was not given back");
}

/* More pools than the list holds: those beyond work, and are not reported on. */
static void touch_in_pool(void *ctx) {
    static sr_pool *pools[SRI_FAULT_POOLS_MAX + 1];
    const bool beyond = *(const bool *)ctx;
    struct sri_loan loan;
    for (size_t i = 0; i < COUNT_OF(pools); i++) {
        sr_pool_options options = SR_POOL_OPTIONS_INIT;
        options.buffer_count = 1;
        options.accounts_max = 1;
        options.guard = SR_GUARD_PROTECT;
        assert_ok(sr_pool_create(NULL, &options, &pools[i]));
    }
    assert_ok(sr_guard_install_fault_handler());
    sr_pool *pool = pools[beyond ? SRI_FAULT_POOLS_MAX : SRI_FAULT_POOLS_MAX - 1];
    const sr_buffer buffer = buffer_take(pool);
    unsigned char *bytes = buffer_bytes(pool, buffer, PAGE);
    lend(pool, buffer, 0, PAGE, true, &loan);
    touch_at(bytes);
}

Test(fault, pools_beyond_the_list_are_protected_but_not_reported_on) {
    static struct child_end end;
    if (RUNNING_ON_VALGRIND) {
        cr_skip_test("too many mappings for valgrind");
    }
    for (int beyond = 0; beyond <= 1; beyond++) {
        bool chosen = beyond != 0;
        child_run(touch_in_pool, &chosen, &end);
        cr_assert(end.died);
        cr_assert_eq(report_in(end.words) == NULL, chosen, "%s", end.words);
    }
}
