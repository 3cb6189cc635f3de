/* Where a cache keeps the keys and values of its sequences, in the type of activations or packed
 * (tensor/kv.h). A slab is what belongs to one block, sequence and key-value head. */
#ifndef EQ_INFER_SLAB_H
#define EQ_INFER_SLAB_H

#include "base/arena.h"
#include "kernels/kernels.h"
#include "model/block.h"

/* All slabs; buffers in the arena. */
typedef struct eq_slabs {
    const eq_config *config; /* borrowed */
    int64_t B, room;         /* sequences, and most tokens of each: whole blocks */
    eq_dtype type;
    int bits; /* 8 or 4: packed, in 4 bits keys before their rotation; else in type, rotated */
    char *keys, *values;               /* [L, B, Hkv], each eq_kv_bytes or [room D] type */
    uint16_t *key_grids, *value_grids; /* packed: [L, B, Hkv, room eq_kv_grids]; else NULL */
    /* In 4 bits: */
    eq_rope rope;                   /* borrowed, of positions 0 .. room-1; see eq_slabs_set_rope */
    float *turn_cosine, *turn_sine; /* [D/2, EQ_KEY_BLOCK]: its first rows, transposed */
} eq_slabs;

/* Which slab. */
typedef struct eq_slab {
    int64_t block, sequence, head;
} eq_slab;

/* slabs->config, B, room, type and bits are given; takes the buffers, measuring or reserved. */
void eq_slabs_layout(eq_arena *arena, eq_slabs *slabs);
/* Tables of positions 0 .. room-1, needed before anything is read of packed slabs. */
void eq_slabs_set_rope(eq_slabs *slabs, const eq_rope *rope);

/* Keep T tokens from `position` on. qkv [T, (H + 2 Hkv) D] has them: keys rotated unless they are
 * kept in 4 bits. */
void eq_slab_put(const eq_kernels *kernels, eq_slabs *slabs, const eq_slab *slab, int64_t position,
                 int64_t T, const void *qkv);
/* Attention over `keys` tokens from `first` on, the first of a block. */
typedef struct eq_slab_range {
    int64_t first, keys;
    eq_dtype result; /* type of the result */
} eq_slab_range;

/* out [group, D] result: attention of `group` queries q [group, D] over the range, and its lse
 * [group] (eq_kernels.attend), or NULL; scratch [eq_slab_scratch]. */
void eq_slab_attend(const eq_kernels *kernels, const eq_slabs *slabs, const eq_slab *slab,
                    const eq_slab_range *range, void *out, float *lse, const void *q,
                    float *scratch);
/* Floats that eq_slab_attend needs for so many keys. */
int64_t eq_slab_scratch(const eq_slabs *slabs, int64_t keys);

/* Keys of tokens first .. first+EQ_KEY_BLOCK-1 (first a multiple) as products read them, an element
 * of all after the other: columns [D, room] type; and of packed slabs their values to rows
 * [room, D] type. Tokens from `end` on get any keys, and values 0.
 * tile scratch [EQ_KEY_BLOCK, D] type. */
void eq_slab_load(const eq_kernels *kernels, const eq_slabs *slabs, const eq_slab *slab,
                  int64_t first, int64_t end, void *columns, void *rows, void *tile);
/* Values of slabs that are not packed, [room, D] type. */
char *eq_slab_values(const eq_slabs *slabs, const eq_slab *slab);

#endif
