/* Files put together byte by byte, sound ones and broken ones. */
#ifndef SUPPORT_BYTES_H
#define SUPPORT_BYTES_H

#include <stddef.h>
#include <stdint.h>

enum { BYTES_ROOM = 32768 };

typedef struct bytes {
    uint8_t data[BYTES_ROOM];
    size_t size;
} bytes;

/* Append; the test fails when there is no room. */
void put(bytes *b, const void *data, size_t size);
void put_zeros(bytes *b, size_t size);
void put_u32(bytes *b, uint32_t v);
void put_u64(bytes *b, uint64_t v);
/* Length in 8 bytes, then the text: a string of GGUF, or a whole header of safetensors. */
void put_text(bytes *b, const char *text);
/* Zeros up to a multiple of `alignment`. */
void put_padding(bytes *b, size_t alignment);

/* Metadata of GGUF: a u32 and a string. */
void put_size(bytes *b, const char *key, uint32_t value);
void put_string(bytes *b, const char *key, const char *value);

/* Write the bytes to path without syncing, which would take long for thousands of files. */
void save_bytes(const bytes *b, const char *path);

#endif
