/* SPDX-License-Identifier: MIT */
/* What flows between nodes: files, lengths and buffers, and whose they are on the way. */
#include "unit/batches.h"

#include <sys/socket.h>
#include <sys/stat.h>

static struct directory directory;
static sr_file root;

static void directory_open(void) {
    directory = directory_begin();
    const int fd = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    root = file_take(world.ring, fd);
}

static void directory_close(void) {
    file_close(world.ring, root);
    directory_end(&directory);
}

static void assert_contents(const char *name, const void *bytes, size_t size_bytes) {
    static char found[65536];
    const int fd = openat(directory.fd, name, O_RDONLY | O_CLOEXEC);
    cr_assert_geq(fd, 0, "%s: %s", name, strerror(errno));
    cr_assert_eq(read(fd, found, sizeof found), (ssize_t)size_bytes, "%s", name);
    cr_assert_eq(memcmp(found, bytes, size_bytes), 0, "%s", name);
    cr_assert_eq(close(fd), 0);
}

static sr_node open_node(uint64_t tag, const char *name, uint32_t flags) {
    sr_node_spec spec = spec_of(SR_OP_OPENAT, tag);
    spec.request.file = root;
    spec.request.path = name;
    spec.request.op_flags = flags;
    spec.request.mode = (flags & O_CREAT) != 0 ? 0644 : 0;
    return node_add(&spec);
}

static sr_node close_node(uint64_t tag, sr_node opener, sr_node last) {
    sr_node_spec spec = spec_of(SR_OP_CLOSE, tag);
    spec.flags = SR_NODE_CLEANUP;
    spec.file_from = opener;
    const sr_node node = node_add(&spec);
    after(node, opener, SR_ALWAYS);
    after(node, last, SR_ALWAYS);
    return node;
}

/* ---- copying ---------------------------------------------------------------------------------
 */

enum { COPY_STEPS = 9 };

/* Opens, asks for the size, reads, writes, syncs, renames and closes; tags from @tag on. */
static void add_copy(uint64_t tag, const char *from, const char *temporary, const char *to) {
    const sr_node source = open_node(tag, from, O_RDONLY);
    const sr_node target = open_node(tag + 1, temporary, O_WRONLY | O_CREAT | O_EXCL);
    sr_node_spec stat_spec = spec_of(SR_OP_STATX, tag + 2);
    stat_spec.request.path = "";
    stat_spec.request.op_flags = AT_EMPTY_PATH;
    stat_spec.request.mask = STATX_SIZE;
    stat_spec.file_from = source;
    const sr_node size = node_add(&stat_spec);
    sr_node_spec read_spec = spec_of(SR_OP_READ, tag + 3);
    read_spec.request.flags = SR_REQUEST_FULL;
    read_spec.file_from = source;
    read_spec.length_from = size;
    read_spec.pool = world.pool;
    const sr_node reader = node_add(&read_spec);
    sr_node_spec write_spec = spec_of(SR_OP_WRITE, tag + 4);
    write_spec.request.flags = SR_REQUEST_FULL;
    write_spec.file_from = target;
    write_spec.length_from = reader;
    write_spec.buffer_from = reader;
    const sr_node writer = node_add(&write_spec);
    sr_node_spec sync_spec = spec_of(SR_OP_FDATASYNC, tag + 5);
    sync_spec.file_from = target;
    const sr_node sync = node_add(&sync_spec);
    sr_node_spec rename_spec = spec_of(SR_OP_RENAMEAT, tag + 6);
    rename_spec.request.file = root;
    rename_spec.request.new_dir = root;
    rename_spec.request.path = temporary;
    rename_spec.request.new_path = to;
    const sr_node renamed = node_add(&rename_spec);
    after(size, source, SR_ON_SUCCESS);
    after(reader, source, SR_ON_SUCCESS);
    after(reader, size, SR_ON_SUCCESS);
    after(writer, target, SR_ON_SUCCESS);
    after(writer, reader, SR_ON_SUCCESS);
    after(sync, target, SR_ON_SUCCESS);
    after(sync, writer, SR_ON_SUCCESS);
    after(renamed, sync, SR_ON_SUCCESS);
    (void)close_node(tag + 7, source, reader);
    (void)close_node(tag + 8, target, sync);
}

static size_t file_size(uint32_t i) {
    return i * 37 % 4096;
}

ON_BACKENDS(batch_flow, many_files_are_copied_with_fewer_buffers_than_files) {
    enum { FILES = 100 }; /* 16 buffers */
    static char bytes[4096];
    char names[3][16];
    directory_open();
    for (uint32_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    for (uint32_t i = 0; i < FILES; i++) {
        (void)snprintf(names[0], sizeof names[0], "from %u", i);
        (void)snprintf(names[1], sizeof names[1], "part %u", i);
        (void)snprintf(names[2], sizeof names[2], "to %u", i);
        cr_assert_eq(close(directory_file(&directory, names[0], bytes + i,
                                          file_size(i) > 4000 ? 1 : file_size(i))),
                     0);
        add_copy(i * COPY_STEPS, names[0], names[1], names[2]); /* the names are copied */
    }
    memset(names, 0, sizeof names);
    batch_run();
    cr_assert_eq(batch_stats().done_total, FILES * COPY_STEPS);
    for (uint32_t i = 0; i < FILES; i++) {
        (void)snprintf(names[2], sizeof names[2], "to %u", i);
        assert_contents(names[2], bytes + i, file_size(i) > 4000 ? 1 : file_size(i));
    }
    cr_assert_eq(pool_stats(world.pool).held_count, 0);
    cr_assert_eq(ring_stats(world.ring).files_open, 1);
    cr_assert_eq(batch_stats().descriptors_closed_total, 0);
    directory_close();
}

/* ---- a file of unknown length, by nodes that callbacks add -----------------------------------
 */

enum { PART = 1000 };

static struct {
    sr_node source;
    sr_node target;
    uint64_t tag;
    uint64_t bytes;
} copy;

static void add_part(uint64_t offset, sr_node before);

static void part_read(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    world_tell(batch, node, outcome, ctx);
    if (outcome->state == SR_OUTCOME_DONE && outcome->result > 0) {
        const uint64_t offset = copy.bytes;
        sr_node_spec spec = spec_of(SR_OP_WRITE, copy.tag++);
        spec.request.offset = offset;
        spec.request.flags = SR_REQUEST_FULL;
        spec.file_from = copy.target;
        spec.length_from = node;
        spec.buffer_from = node;
        copy.bytes += outcome->bytes_done;
        const sr_node writer = node_add(&spec);
        after(writer, copy.target, SR_ON_SUCCESS);
        after(writer, node, SR_ON_SUCCESS);
        add_part(copy.bytes, node);
    }
}

static void add_part(uint64_t offset, sr_node before) {
    sr_node_spec spec = spec_of(SR_OP_READ, copy.tag++);
    spec.request.offset = offset;
    spec.request.length = PART;
    spec.file_from = copy.source;
    spec.pool = world.pool;
    spec.on_outcome = part_read;
    const sr_node reader = node_add(&spec);
    after(reader, copy.source, SR_ON_SUCCESS);
    after(reader, copy.target, SR_ON_SUCCESS); /* for its callback */
    after(reader, before, SR_ON_SUCCESS);
}

ON_BACKENDS(batch_flow, a_file_of_unknown_length_is_copied_by_nodes_that_callbacks_add) {
    static char bytes[60 * PART + 17];
    sr_batch_options options = SR_BATCH_OPTIONS_INIT;
    for (uint32_t forget = 0; forget < 2; forget++) {
        options.forget = forget;
        batch_renew(&options);
        directory_open();
        for (uint32_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (char)(i ^ i / 255);
        }
        cr_assert_eq(close(directory_file(&directory, "from", bytes, sizeof bytes)), 0);
        memset(&copy, 0, sizeof copy);
        copy.source = open_node(copy.tag++, "from", O_RDONLY);
        copy.target = open_node(copy.tag++, "to", O_WRONLY | O_CREAT);
        add_part(0, copy.target);
        batch_run();
        cr_assert_eq(copy.bytes, sizeof bytes);
        assert_contents("to", bytes, sizeof bytes);
        /* With `forget` both went when nobody needed them any more. */
        cr_assert_eq(batch_stats().descriptors_closed_total, forget == 1 ? 2 : 0);
        cr_assert_eq(ring_stats(world.ring).files_open, forget == 1 ? 1 : 3);
        if (forget == 0) {
            batch_renew(&options); /* destroy closes and counts them */
            cr_assert_eq(ring_stats(world.ring).files_open, 1);
            cr_assert_eq(ring_stats(world.ring).descriptors_closed_total, 2);
        }
        directory_close();
    }
}

/* ---- arguments -------------------------------------------------------------------------------
 */

ON_BACKENDS(batch_flow, a_buffer_comes_with_its_offset_unless_the_request_has_another) {
    int ends[2];
    char got[16];
    const sr_buffer buffer = buffer_take(world.pool);
    memcpy(buffer_bytes(world.pool, buffer, 64), "0123456789abcdefghijklmnopqrstuv", 32);
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_file sink = file_take(world.ring, ends[1]);
    sr_node_spec spec = spec_of(SR_OP_WRITE, 0);
    spec.request.file = sink;
    spec.request.offset = SR_OFFSET_CURRENT;
    spec.request.buffer = buffer;
    spec.request.buffer_offset = 10;
    spec.request.length = 3;
    sr_node last = node_add(&spec);
    const uint32_t offsets[] = {0, 20, 0}; /* the source's own, another, and that one's */
    for (uint32_t i = 0; i < 3; i++) {
        spec = spec_of(SR_OP_WRITE, 1 + i);
        spec.request.file = sink;
        spec.request.offset = SR_OFFSET_CURRENT;
        spec.request.buffer_offset = offsets[i];
        spec.buffer_from = last;
        spec.length_from = last;
        const sr_node node = node_add(&spec);
        after(node, last, SR_ON_SUCCESS);
        last = node;
    }
    batch_run();
    cr_assert_eq(read(ends[0], got, sizeof got), 12);
    cr_assert_eq(memcmp(got, "abcabcklmklm", 12), 0, "%.12s", got);
    assert_ok(
        sr_pool_release(world.pool, buffer)); /* a buffer of the caller's stays the caller's */
    file_close(world.ring, sink);
    cr_assert_eq(close(ends[0]), 0);
}

ON_BACKENDS(batch_flow, a_length_beyond_the_buffer_fails_the_node_that_takes_it) {
    directory_open();
    cr_assert_eq(ftruncate(directory_file(&directory, "large", "", 0), 5000), 0);
    sr_node_spec stat_spec = spec_of(SR_OP_STATX, 0);
    stat_spec.request.file = root;
    stat_spec.request.path = "large";
    stat_spec.request.mask = STATX_BASIC_STATS;
    const sr_node size = node_add(&stat_spec);
    const sr_node opener = open_node(1, "large", O_RDONLY);
    sr_node_spec spec = spec_of(SR_OP_READ, 2);
    spec.file_from = opener;
    spec.length_from = size;
    spec.pool = world.pool; /* of 4,096 bytes */
    const sr_node reader = node_add(&spec);
    after(reader, opener, SR_ON_SUCCESS);
    after(reader, size, SR_ON_SUCCESS);
    (void)close_node(3, opener, reader);
    batch_run();
    assert_done(0);
    cr_assert_eq(world.told[0].outcome.bytes_done, 0, "a size is not bytes done");
    assert_failed(2, SR_E_BOUNDS);
    assert_done(3);
    cr_assert_eq(pool_stats(world.pool).held_count, 0);
    directory_close();
}

ON_BACKENDS(batch_flow, directories_and_second_files_are_arguments_too) {
    directory_open();
    sr_node_spec mkdir_spec = spec_of(SR_OP_MKDIRAT, 0);
    mkdir_spec.request.file = root;
    mkdir_spec.request.path = "inner";
    mkdir_spec.request.mode = 0755;
    const sr_node made = node_add(&mkdir_spec);
    const sr_node inner = open_node(1, "inner", O_RDONLY | O_DIRECTORY);
    after(inner, made, SR_ON_SUCCESS);
    sr_node_spec link_spec = spec_of(SR_OP_SYMLINKAT, 2);
    link_spec.request.path = "target text";
    link_spec.request.new_path = "link";
    link_spec.new_dir_from = inner;
    const sr_node linked = node_add(&link_spec);
    after(linked, inner, SR_ON_SUCCESS);
    cr_assert_eq(close(directory_file(&directory, "source", "spliced", 7)), 0);
    int ends[2];
    char got[16];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    const sr_node source = open_node(3, "source", O_RDONLY);
    sr_node_spec splice_spec = spec_of(SR_OP_SPLICE, 4);
    splice_spec.request.file = file_take(world.ring, ends[1]);
    splice_spec.request.offset = SR_OFFSET_CURRENT;
    splice_spec.request.length = 7;
    splice_spec.other_from = source;
    const sr_node spliced = node_add(&splice_spec);
    after(spliced, source, SR_ON_SUCCESS);
    (void)close_node(5, source, spliced);
    (void)close_node(6, inner, linked);
    batch_run();
    assert_done(2);
    assert_outcome(4, SR_OUTCOME_DONE, 7);
    cr_assert_eq(readlinkat(directory.fd, "inner/link", got, sizeof got), 11);
    cr_assert_eq(read(ends[0], got, sizeof got), 7);
    cr_assert_eq(memcmp(got, "spliced", 7), 0);
    file_close(world.ring, splice_spec.request.file);
    cr_assert_eq(close(ends[0]), 0);
    directory_close();
}

ON_BACKENDS(batch_flow, everything_that_a_request_points_to_is_copied) {
    int pair[2];
    char byte = 0;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const sr_file sender = file_take(world.ring, pair[0]);
    const sr_buffer buffer = buffer_take(world.pool);
    buffer_bytes(world.pool, buffer, 2)[0] = 'a';
    buffer_bytes(world.pool, buffer, 2)[1] = 'b';
    sr_slice slices[2] = {{buffer, 1, 1}, {buffer, 0, 1}};
    int descriptors[1] = {directory_begin().fd};
    const int travels = descriptors[0];
    sr_node_spec spec = spec_of(SR_OP_SENDMSG, 0);
    spec.request.file = sender;
    spec.request.slices = slices;
    spec.request.slice_count = 2;
    spec.request.descriptors = descriptors;
    spec.request.descriptor_count = 1;
    (void)node_add(&spec);
    memset(slices, 0, sizeof slices);
    descriptors[0] = -1;
    batch_run();
    assert_outcome(0, SR_OUTCOME_DONE, 2);
    char control[CMSG_SPACE(sizeof(int))];
    char got[2];
    struct iovec iov = {got, sizeof got};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    cr_assert_eq(recvmsg(pair[1], &header, MSG_CMSG_CLOEXEC), 2);
    cr_assert(got[0] == 'b' && got[1] == 'a');
    int arrived = -1;
    memcpy(&arrived, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof arrived);
    cr_assert_geq(arrived, 0);
    (void)byte;
    cr_assert_eq(close(arrived), 0);
    cr_assert_eq(close(travels), 0);
    cr_assert_eq(close(pair[1]), 0);
    file_close(world.ring, sender);
    assert_ok(sr_pool_release(world.pool, buffer));
}

ON_BACKENDS(batch_flow, descriptors_in_a_message_that_nobody_reads_are_closed_and_counted) {
    static struct baseline before;
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const sr_file receiver = file_take(world.ring, pair[0]);
    const sr_buffer buffer = buffer_take(world.pool);
    baseline_take(&before);
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {(char[]){'x'}, 1};
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = SOL_SOCKET;
    message->cmsg_type = SCM_RIGHTS;
    message->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(message), &pair[1], sizeof(int));
    cr_assert_eq(sendmsg(pair[1], &header, 0), 1);
    const sr_slice slice = {buffer, 0, 64};
    sr_node_spec spec = spec_of(SR_OP_RECVMSG, 0);
    spec.request.file = receiver;
    spec.request.slices = &slice;
    spec.request.slice_count = 1;
    spec.request.descriptor_count = 4;
    spec.on_outcome = NULL;
    (void)node_add(&spec);
    batch_run();
    cr_assert_eq(batch_stats().descriptors_closed_total, 1);
    cr_assert_null(baseline_difference(&before), "%s", baseline_difference(&before));
    assert_ok(sr_pool_release(world.pool, buffer));
    file_close(world.ring, receiver);
    cr_assert_eq(close(pair[1]), 0);
}

/* ---- waiting for buffers and places for files ------------------------------------------------
 */

ON_BACKENDS(batch_flow, a_node_without_a_buffer_keeps_nobody_else_waiting) {
    enum { TAKERS = 40 };
    sr_buffer held[16];
    for (uint32_t i = 0; i < 16; i++) {
        held[i] = buffer_take(world.pool);
    }
    directory_open();
    cr_assert_eq(close(directory_file(&directory, "file", "x", 1)), 0);
    const sr_node opener = open_node(100, "file", O_RDONLY);
    for (uint32_t i = 0; i < TAKERS; i++) {
        sr_node_spec spec = spec_of(SR_OP_READ, i);
        spec.request.length = 1;
        spec.file_from = opener;
        spec.pool = world.pool;
        const sr_node reader = node_add(&spec);
        after(reader, opener, SR_ON_SUCCESS);
    }
    after(node_nop(101), opener, SR_ON_SUCCESS);
    assert_code(sr_batch_run(world.batch, SR_FOREVER, NULL), SR_E_IDLE);
    cr_assert_eq(world.told_count, 2);
    cr_assert_eq(batch_stats().starved, TAKERS);
    /* A buffer that the caller gives back feeds them all, one after the other, in their order. */
    assert_ok(sr_pool_release(world.pool, held[0]));
    batch_run();
    for (uint32_t i = 0; i < TAKERS; i++) {
        assert_outcome(i, SR_OUTCOME_DONE, 1);
        cr_assert_eq(world.told[i].position, 2 + i);
    }
    for (uint32_t i = 1; i < 16; i++) {
        assert_ok(sr_pool_release(world.pool, held[i]));
    }
    directory_close();
}

static const sr_ring_options few_files = {
    sizeof(sr_ring_options), 128, 0, 3, 0, 16, 0, 0, 0, 5000000000u, 0, 0, 0, 0, 0,
    SR_BACKEND_ANY,          0};

ON_BACKENDS_WITH(batch_flow, closes_do_not_wait_behind_opens_that_wait_for_a_place, &few_files) {
    enum { FILES = 50 }; /* two places beside the directory's */
    directory_open();
    cr_assert_eq(close(directory_file(&directory, "file", "x", 1)), 0);
    for (uint32_t i = 0; i < FILES; i++) {
        const sr_node opener = open_node(2 * i, "file", O_RDONLY);
        (void)close_node(2 * i + 1, opener, opener);
    }
    batch_run();
    cr_assert_eq(batch_stats().done_total, 2 * FILES);
    directory_close();
}

ON_BACKENDS(batch_flow, a_pool_is_not_detached_while_nodes_need_it) {
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    sr_node_spec spec = spec_of(SR_OP_READ, 0);
    spec.request.file = file_take(world.ring, ends[0]);
    spec.request.length = 1;
    spec.request.offset = SR_OFFSET_CURRENT;
    spec.pool = world.pool;
    const sr_node first = node_add(&spec);
    spec.request.tag = 1;
    const sr_node second = node_add(&spec);
    after(second, first, SR_ON_SUCCESS);
    assert_ok(sr_batch_start(world.batch));
    assert_code(sr_ring_detach_pool(world.ring, world.pool), SR_E_IN_FLIGHT);
    assert_misuse("sr_ring_detach_pool", SR_E_IN_FLIGHT);
    cr_assert_eq(write(ends[1], "ab", 2), 2);
    batch_run();
    assert_ok(sr_ring_detach_pool(world.ring, world.pool));
    pool_attach(world.ring, world.pool);
    file_close(world.ring, spec.request.file);
    cr_assert_eq(close(ends[1]), 0);
}

/* ---- taking ----------------------------------------------------------------------------------
 */

ON_BACKENDS(batch_flow, a_file_that_the_caller_takes_is_the_callers) {
    directory_open();
    cr_assert_eq(close(directory_file(&directory, "file", "x", 1)), 0);
    const sr_node opener = open_node(0, "file", O_RDONLY);
    const sr_node failing = open_node(1, "no such file", O_RDONLY);
    sr_file file = {1};
    assert_code(sr_batch_take_file(world.batch, opener, &file), SR_E_STATE);
    assert_misuse("sr_batch_take_file", SR_E_STATE);
    batch_run();
    assert_ok(sr_batch_take_file(world.batch, opener, &file));
    cr_assert_neq(file.bits, 0);
    sr_file twice = {1};
    assert_code(sr_batch_take_file(world.batch, opener, &twice), SR_E_STATE);
    assert_misuse("sr_batch_take_file", SR_E_STATE);
    cr_assert_eq(twice.bits, 0);
    assert_code(sr_batch_take_file(world.batch, failing, &twice), SR_E_STATE);
    assert_misuse("sr_batch_take_file", SR_E_STATE);
    batch_renew(NULL);
    cr_assert_eq(ring_stats(world.ring).descriptors_closed_total, 0);
    file_close(world.ring, file);
    directory_close();
}

static sr_buffer taken;

static void take_buffer(sr_batch *batch, sr_node node, const sr_node_outcome *outcome, void *ctx) {
    sr_buffer twice = {1};
    world_tell(batch, node, outcome, ctx);
    assert_ok(sr_batch_take_buffer(batch, node, &taken));
    assert_code(sr_batch_take_buffer(batch, node, &twice), SR_E_STATE);
    assert_misuse("sr_batch_take_buffer", SR_E_STATE);
    cr_assert_eq(twice.bits, 0);
}

ON_BACKENDS(batch_flow, a_buffer_that_the_caller_takes_is_the_callers) {
    directory_open();
    cr_assert_eq(close(directory_file(&directory, "file", "taken", 5)), 0);
    for (uint32_t later = 0; later < 2; later++) {
        sr_batch_options options = SR_BATCH_OPTIONS_INIT;
        options.forget = later;
        batch_renew(&options);
        const sr_node opener = open_node(0, "file", O_RDONLY);
        sr_node_spec spec = spec_of(SR_OP_READ, 1);
        spec.request.length = 5;
        spec.file_from = opener;
        spec.pool = world.pool;
        spec.on_outcome = later == 0 ? take_buffer : world_tell;
        const sr_node reader = node_add(&spec);
        sr_node_spec again = spec_of(SR_OP_READ, 2);
        again.file_from = opener;
        again.length_from = reader;
        again.buffer_from = reader;
        again.on_outcome = later == 1 ? take_buffer : world_tell;
        const sr_node rereader = node_add(&again);
        after(reader, opener, SR_ON_SUCCESS);
        after(rereader, opener, SR_ON_SUCCESS);
        after(rereader, reader, SR_ON_SUCCESS);
        batch_run();
        assert_outcome(2, SR_OUTCOME_DONE, 5);
        batch_renew(NULL);
        cr_assert_eq(pool_stats(world.pool).held_count, 1);
        cr_assert_eq(memcmp(buffer_bytes(world.pool, taken, 5), "taken", 5), 0);
        assert_ok(sr_pool_release(world.pool, taken));
    }
    directory_close();
}

ON_BACKENDS(batch_flow, a_buffer_that_nobody_takes_any_more_goes_back_at_once) {
    directory_open();
    cr_assert_eq(close(directory_file(&directory, "file", "x", 1)), 0);
    const sr_node opener = open_node(0, "file", O_RDONLY);
    sr_node_spec spec = spec_of(SR_OP_READ, 1);
    spec.request.length = 1;
    spec.file_from = opener;
    spec.pool = world.pool;
    const sr_node reader = node_add(&spec);
    after(reader, opener, SR_ON_SUCCESS);
    sr_node_spec again = spec_of(SR_OP_READ, 2);
    again.file_from = opener;
    again.length_from = reader;
    again.buffer_from = reader;
    const sr_node rereader = node_add(&again); /* skipped: that, too, is an outcome */
    after(rereader, opener, SR_ON_SUCCESS);
    after(rereader, reader, SR_ON_FAILURE);
    const sr_node slow = node_slow(3, 20 * MS);
    after(slow, reader, SR_ON_SUCCESS);
    assert_ok(sr_batch_start(world.batch));
    while (world.told[2].count == 0) {
        assert_ok(sr_ring_wait(world.ring, 1, SR_FOREVER, NULL, NULL));
    }
    cr_assert_eq(world.told[3].count, 0);
    cr_assert_eq(pool_stats(world.pool).held_count, 0);
    batch_run();
    (void)slow;
    directory_close();
}

/* ---- nodes that callbacks add ----------------------------------------------------------------
 */

static void add_without_edge(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                             void *ctx) {
    sr_node_spec spec = spec_of(SR_OP_CLOSE, 50);
    sr_node added;
    sr_node older = {0};
    world_tell(batch, node, outcome, ctx);
    spec.file_from = node;
    assert_ok(sr_batch_add(batch, &spec, &added)); /* and no edge */
    spec = spec_of(SR_OP_NOP, 51);
    assert_ok(sr_batch_add(batch, &spec, &older));
    assert_code(sr_batch_after(batch, added, older, SR_ALWAYS), -EINVAL); /* a later one */
    assert_misuse("sr_batch_after", -EINVAL);
    assert_code(sr_batch_after(batch, node, added, SR_ALWAYS), SR_E_STATE); /* an old one */
    assert_misuse("sr_batch_after", SR_E_STATE);
    assert_ok(sr_batch_after(batch, older, added, SR_ON_FAILURE));
}

ON_BACKENDS(batch_flow, an_added_node_without_the_edge_of_its_argument_fails) {
    sr_node_spec spec = spec_of(SR_OP_OPENAT, 0);
    spec.request.path = "/dev/null";
    spec.on_outcome = add_without_edge;
    (void)node_add(&spec);
    batch_run();
    assert_misuse("sr_batch_add", -EINVAL);
    assert_failed(50, -EINVAL);
    assert_done(51);
}

static void use_closed_file(sr_batch *batch, sr_node node, const sr_node_outcome *outcome,
                            void *ctx) {
    sr_node_spec spec = spec_of(SR_OP_FSYNC, 60);
    sr_node added;
    const sr_node *opener = ctx;
    world_tell(batch, node, outcome, ctx);
    spec.file_from = *opener;
    assert_ok(sr_batch_add(batch, &spec, &added));
    assert_ok(sr_batch_after(batch, added, *opener, SR_ON_SUCCESS));
}

ON_BACKENDS(batch_flow, a_file_that_a_node_has_closed_is_stale_for_later_ones) {
    sr_node_spec spec = spec_of(SR_OP_OPENAT, 0);
    spec.request.path = "/dev/null";
    sr_node opener = node_add(&spec);
    spec = spec_of(SR_OP_CLOSE, 1);
    spec.file_from = opener;
    spec.request.ctx = &opener;
    spec.on_outcome = use_closed_file;
    const sr_node closer = node_add(&spec);
    after(closer, opener, SR_ON_SUCCESS);
    batch_run();
    assert_done(1);
    assert_failed(60, SR_E_STALE);
    sr_file file;
    assert_code(sr_batch_take_file(world.batch, opener, &file), SR_E_STATE);
    assert_misuse("sr_batch_take_file", SR_E_STATE);
}
