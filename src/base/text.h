/* Text that stands somewhere else. */
#ifndef EQ_BASE_TEXT_H
#define EQ_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Borrowed bytes, not terminated. */
typedef struct eq_text {
    const char *data;
    size_t size;
} eq_text;

static inline bool eq_text_is(eq_text text, const char *name)
{
    return text.size == strlen(name) && !memcmp(text.data, name, text.size);
}

#endif
