#include "support_bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void put(bytes *b, const void *data, size_t size)
{
    assert_true(size <= BYTES_ROOM - b->size);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void put_zeros(bytes *b, size_t size)
{
    assert_true(size <= BYTES_ROOM - b->size);
    memset(b->data + b->size, 0, size);
    b->size += size;
}

void put_u32(bytes *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

void put_u64(bytes *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

void put_text(bytes *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

void put_padding(bytes *b, size_t alignment)
{
    while (b->size % alignment)
        put_zeros(b, 1);
}

void put_size(bytes *b, const char *key, uint32_t value)
{
    put_text(b, key);
    put_u32(b, 4); /* u32 */
    put_u32(b, value);
}

void put_string(bytes *b, const char *key, const char *value)
{
    put_text(b, key);
    put_u32(b, 8); /* string */
    put_text(b, value);
}

void save_bytes(const bytes *b, const char *path)
{
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(b->data, 1, b->size, out), b->size);
    assert_int_equal(fclose(out), 0);
}
