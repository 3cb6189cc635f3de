#include "base/arena.h"

#include <assert.h>

eq_arena eq_arena_measure(void)
{
    return (eq_arena){NULL, 0, 0};
}

eq_status eq_arena_reserve(eq_ctx *ctx, eq_arena *arena, size_t size)
{
    *arena = (eq_arena){NULL, size, 0};
    arena->base = eq_alloc(ctx, (int64_t)size, 1);
    return arena->base ? EQ_OK : EQ_ENOMEM;
}

eq_status eq_arena_reserve_large(eq_ctx *ctx, eq_arena *arena, size_t size)
{
    *arena = (eq_arena){NULL, size, 0};
    arena->base = eq_alloc_large(ctx, (int64_t)size);
    return arena->base ? EQ_OK : EQ_ENOMEM;
}

void eq_arena_release(eq_arena *arena)
{
    eq_free(arena->base);
    *arena = (eq_arena){NULL, 0, 0};
}

void *eq_arena_take(eq_arena *arena, int64_t count, size_t size)
{
    assert(count >= 0 && (uint64_t)count <= PTRDIFF_MAX / (size ? size : 1));
    size_t bytes = ((size_t)count * size + 63) / 64 * 64;
    void *p = arena->base ? arena->base + arena->used : NULL;
    arena->used += bytes;
    assert(!arena->base || arena->used <= arena->size);
    return p;
}

void eq_arena_rewind(eq_arena *arena, size_t mark)
{
    assert(mark <= arena->used);
    arena->used = mark;
}
