#include "base/context.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#ifdef _OPENMP
#include <omp.h>
#endif

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

void eq_ctx_init(eq_ctx *ctx, int threads)
{
    memset(ctx, 0, sizeof *ctx);
    atomic_flag_clear(&ctx->message_taken);
    ctx->threads = threads > 0 ? threads : eq_processors();
}

void eq_ctx_clear(eq_ctx *ctx)
{
    ctx->message[0] = 0;
    ctx->status = EQ_OK;
    atomic_flag_clear(&ctx->message_taken);
}

eq_status eq_fail(eq_ctx *ctx, eq_status status, const char *format, ...)
{
    if (!atomic_flag_test_and_set(&ctx->message_taken)) {
        va_list args;
        va_start(args, format);
        vsnprintf(ctx->message, sizeof ctx->message, format, args);
        va_end(args);
        ctx->status = (int)status;
    }
    return status;
}

eq_status eq_ctx_status(const eq_ctx *ctx)
{
    return (eq_status)ctx->status;
}

eq_status eq_check_interrupt(eq_ctx *ctx)
{
    const eq_callbacks *call = &ctx->callbacks;
    if (call->should_stop && call->should_stop(call->user))
        return eq_fail(ctx, EQ_EINTERRUPTED, "interrupted");
    return EQ_OK;
}

void eq_log(eq_ctx *ctx, eq_log_level level, const char *format, ...)
{
    if (!ctx->callbacks.log) return;
    char line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->callbacks.log(ctx->callbacks.user, level, line);
}

void eq_report(eq_ctx *ctx, const eq_progress *progress)
{
    if (ctx->callbacks.progress) ctx->callbacks.progress(ctx->callbacks.user, progress);
}

/* Memory of `bytes` bytes, or NULL, not zeroed. */
static void *take(eq_ctx *ctx, size_t bytes, size_t alignment)
{
    int64_t number = atomic_fetch_add(&ctx->allocations, 1) + 1;
    if (bytes > PTRDIFF_MAX - alignment || number == ctx->fail_allocation) return NULL;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    return aligned_alloc(alignment, rounded ? rounded : alignment);
}

void *eq_alloc(eq_ctx *ctx, int64_t count, size_t size)
{
    size_t bytes = 0;
    bool fits = count >= 0 && !__builtin_mul_overflow((size_t)count, size, &bytes);
    void *p = take(ctx, fits ? bytes : SIZE_MAX, ALIGNMENT);
    if (!p) {
        eq_fail(ctx, EQ_ENOMEM, "out of memory: %lld items of %zu bytes", (long long)count, size);
        return NULL;
    }
    return memset(p, 0, bytes);
}

void *eq_grow(eq_ctx *ctx, void *old, int64_t count, int64_t room, size_t size)
{
    void *p = eq_alloc(ctx, room, size);
    if (!p) return NULL;
    if (count) memcpy(p, old, (size_t)count * size);
    eq_free(old);
    return p;
}

void *eq_alloc_large(eq_ctx *ctx, int64_t bytes)
{
    void *p = take(ctx, bytes >= 0 ? (size_t)bytes : SIZE_MAX, HUGE_PAGE);
    if (p) madvise(p, (size_t)bytes, MADV_HUGEPAGE); /* a refusal costs only speed */
    if (!p) eq_fail(ctx, EQ_ENOMEM, "out of memory: %lld bytes", (long long)bytes);
    return p;
}

void eq_free(void *p)
{
    free(p);
}

char *eq_strndup(eq_ctx *ctx, const char *s, size_t n)
{
    char *copy = eq_alloc(ctx, (int64_t)n + 1, 1);
    if (copy && n) memcpy(copy, s, n); /* s of an empty file is NULL */
    return copy;
}

char *eq_format(eq_ctx *ctx, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n < 0 ? NULL : eq_alloc(ctx, (int64_t)n + 1, 1);
    if (!text) return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)n + 1, format, args);
    va_end(args);
    return text;
}

double eq_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int eq_this_thread(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}
