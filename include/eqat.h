/* eqat: quantization-aware training of language models on the CPU.
 *
 * Everything starts with a context (eq_ctx_new). Functions that can fail return an eq_status and
 * leave one message in the context (eq_ctx_message); the first message wins. An object returned
 * through a pointer to a pointer belongs to the caller, who frees it with the function named
 * beside it. Nothing here calls exit, prints, or keeps global state. */
#ifndef EQAT_H
#define EQAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define EQ_API
#else
#define EQ_API __attribute__((visibility("default")))
#endif

typedef enum eq_status {
    EQ_OK = 0,
    EQ_EIO,          /* the operating system refused: open, read, write, disk full */
    EQ_EFORMAT,      /* a file is not what it claims to be, or of a kind that is not supported */
    EQ_EINVAL,       /* an option or argument is out of range, or options do not fit the model */
    EQ_ENOMEM,       /* memory ran out, or the plan does not fit the limit */
    EQ_EMISMATCH,    /* a run folder was made with other options or data */
    EQ_ENUMERIC,     /* a loss or weight is not finite */
    EQ_EINTERRUPTED, /* the caller asked to stop; the run can be resumed */
    EQ_EINTERNAL     /* a library below failed in a way that should not happen */
} eq_status;

typedef struct eq_ctx eq_ctx;

typedef enum eq_log_level { EQ_LOG_INFO, EQ_LOG_WARNING } eq_log_level;
typedef void (*eq_log_fn)(void *user, eq_log_level level, const char *line);

/* What a long task has done so far. Unknown numbers are negative. */
typedef struct eq_progress {
    const char *task;    /* "block 3/30, epoch 1/2" */
    const char *unit;    /* what done and total count: "steps", "windows" */
    int64_t done, total;
    double loss;
    double per_second;   /* tokens per second */
    double seconds_left; /* of the whole job */
} eq_progress;
typedef void (*eq_progress_fn)(void *user, const eq_progress *progress);

#ifdef __cplusplus
}
#endif
#endif
