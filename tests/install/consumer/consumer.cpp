/* SPDX-License-Identifier: MIT */
/*
 * A C++ program of somebody else: owns a ring and a pool by unique_ptr, gets completions by callback, and
 * reads back what it wrote to a pipe. Exit codes as in consumer.c.
 */
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <safering/safering.h>
#include <string>
#include <unistd.h>

namespace
{

struct destroy {
    void operator()(sr_ring *ring) const
    {
        sr_ring_destroy(&ring);
    }
    void operator()(sr_pool *pool) const
    {
        sr_pool_destroy(&pool);
    }
};

void require(int code, const char *what)
{
    if (code < 0) {
        std::fprintf(stderr, "%s: %s\n", what, sr_strerror(code));
        std::exit(code == -EPERM || code == -ENOSYS ? 77 : 1);
    }
}

} // namespace

int main()
{
    const std::string text = "through a pipe, from C++";
    int ends[2];
    if (pipe(ends) != 0 ||
        write(ends[1], text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
        std::perror("pipe");
        return 1;
    }

    sr_pool *raw_pool = nullptr;
    sr_pool_options pool_options = SR_POOL_OPTIONS_4K;
    pool_options.buffer_count = 4;
    require(sr_pool_create(nullptr, &pool_options, &raw_pool), "sr_pool_create");
    std::unique_ptr<sr_pool, destroy> pool(raw_pool);

    /* After the pool, so that it is destroyed before it. */
    sr_ring *raw_ring = nullptr;
    sr_ring_options ring_options = SR_RING_OPTIONS_INIT;
    ring_options.entries = 8;
    require(sr_ring_create(&ring_options, &raw_ring), "sr_ring_create");
    std::unique_ptr<sr_ring, destroy> ring(raw_ring);

    sr_file file = SR_FILE_NONE;
    sr_buffer buffer = SR_BUFFER_NONE;
    require(sr_ring_attach_pool(ring.get(), pool.get()), "sr_ring_attach_pool");
    require(sr_file_adopt(ring.get(), ends[0], 0, &file), "sr_file_adopt");
    require(sr_pool_acquire(pool.get(), text.size(), &buffer), "sr_pool_acquire");

    int64_t result = -1;
    sr_request request = SR_REQUEST_INIT;
    request.op = SR_OP_READ;
    request.file = file;
    request.buffer = buffer;
    request.length = text.size();
    request.offset = SR_OFFSET_CURRENT;
    request.ctx = &result;
    request.on_complete = [](sr_ring *, const sr_completion *completion, void *ctx) {
        *static_cast<int64_t *>(ctx) = completion->result;
    };
    require(sr_ring_submit(ring.get(), &request, nullptr), "sr_ring_submit");
    require(sr_ring_wait(ring.get(), 1, SR_FOREVER, nullptr, nullptr), "sr_ring_wait");

    void *data = nullptr;
    require(sr_buffer_data(pool.get(), buffer, 0, text.size(), SR_ACCESS_READ, &data),
            "sr_buffer_data");
    bool same = std::memcmp(data, text.data(), text.size()) == 0;
    require(sr_pool_release(pool.get(), buffer), "sr_pool_release");

    std::printf("read %lld of %zu bytes, %s\n", static_cast<long long>(result), text.size(),
                same ? "the same" : "DIFFERENT");
    return result == static_cast<int64_t>(text.size()) && same ? 0 : 1;
}
