/* FNV-1a, 64 bits: to notice that something changed, not to withstand anybody. */
#ifndef EQ_BASE_HASH_H
#define EQ_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define EQ_HASH_START 0xcbf29ce484222325u

/* Continue `hash` (EQ_HASH_START at first) over size bytes. */
static inline uint64_t eq_hash(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

#endif
