/* The context: error message, log, progress, threads, allocation. Passed first everywhere. */
#ifndef EQ_BASE_CONTEXT_H
#define EQ_BASE_CONTEXT_H

#include "base/machine.h"
#include "eqat.h"
#include <stdatomic.h>
#include <stdio.h>

struct eq_kernels;
struct eq_gemm_cache;

struct eq_ctx {
    int threads;               /* number of threads of every parallel loop, >= 1 */
    _Atomic int status;        /* first failure; sticky until eq_ctx_clear */
    char message[1024];        /* of that failure */
    atomic_flag message_taken; /* guards message */
    eq_callbacks callbacks;
    const struct eq_kernels *kernels; /* borrowed from kernels/table.c */
    bool amx;                         /* bf16 products on AMX tiles */
    struct eq_gemm_cache *gemm;       /* owned by kernels/gemm.c, made on first use */
    _Atomic int64_t allocations;      /* number of eq_alloc calls so far */
    int64_t fail_allocation;          /* tests: the number of the call that fails, 0 = none */
};

/* Context in the caller's storage with `threads` threads (0 = all processors). */
void eq_ctx_init(eq_ctx *ctx, int threads);

/* Record a failure and return its code. The first message wins. Thread-safe. */
eq_status eq_fail(eq_ctx *ctx, eq_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The sticky status, as left by eq_fail. */
eq_status eq_ctx_status(const eq_ctx *ctx);
/* EQ_EINTERRUPTED (recorded with a message) when the caller asked to stop, else EQ_OK. */
eq_status eq_check_interrupt(eq_ctx *ctx);

void eq_log(eq_ctx *ctx, eq_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Report progress through the caller's callback, if there is one. */
void eq_report(eq_ctx *ctx, const eq_progress *progress);

/* Zeroed heap memory aligned to 64 bytes, count * size bytes with overflow check; NULL after
 * eq_fail(EQ_ENOMEM). Free with eq_free, which accepts NULL. count * size = 0 gives a valid
 * pointer. */
void *eq_alloc(eq_ctx *ctx, int64_t count, size_t size);
/* An array of `count` items moved to one with room for `room` (>= count), the rest zeroed; `old`,
 * which may be NULL, is freed. NULL after eq_fail: `old` stays. */
void *eq_grow(eq_ctx *ctx, void *old, int64_t count, int64_t room, size_t size);
/* As eq_alloc, not zeroed, in pages of 2 MiB where the system has them: reading it from front to
 * back then waits less for addresses. */
void *eq_alloc_large(eq_ctx *ctx, int64_t bytes);
/* Copy of n bytes of s with a NUL after them. */
char *eq_strndup(eq_ctx *ctx, const char *s, size_t n);
/* printf into fresh memory; NULL after eq_fail. */
char *eq_format(eq_ctx *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Seconds of the monotonic clock. */
double eq_seconds(void);

/* Number of the calling thread within a parallel loop, 0 outside. */
int eq_this_thread(void);

#endif
