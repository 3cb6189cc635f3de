/* A block of memory handed out from the front. The layout of a thing is one function that calls
 * eq_arena_take for each of its buffers; it runs once on a measuring arena to learn the size, and
 * once on a reserved one. So sizes are known, and fail, before any work starts. */
#ifndef EQ_BASE_ARENA_H
#define EQ_BASE_ARENA_H

#include "base/context.h"

typedef struct eq_arena {
    char *base; /* owned; NULL while measuring */
    size_t size;
    size_t used;
} eq_arena;

/* An arena that only counts: takes give NULL, `used` grows. */
eq_arena eq_arena_measure(void);
/* Reserve size bytes (zeroed). */
eq_status eq_arena_reserve(eq_ctx *ctx, eq_arena *arena, size_t size);
/* The same by eq_alloc_large: contents are not zero. */
eq_status eq_arena_reserve_large(eq_ctx *ctx, eq_arena *arena, size_t size);
void eq_arena_release(eq_arena *arena);
/* count * size bytes aligned to 64; NULL while measuring. Taking more than was reserved is a
 * programming error, caught by an assertion. Contents: zero at first, whatever was there after a
 * rewind. */
void *eq_arena_take(eq_arena *arena, int64_t count, size_t size);
/* Give back everything taken since `used` was `mark`. */
void eq_arena_rewind(eq_arena *arena, size_t mark);

#endif
