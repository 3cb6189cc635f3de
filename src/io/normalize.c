#include "io/normalize.h"

#include "io/characters.h"

#include <string.h>

/* Hangul: syllable = S + ((l * VOWELS) + v) * TAILS + t. */
enum { S = 0xAC00, L = 0x1100, V = 0x1161, T = 0x11A7, LEADS = 19, VOWELS = 21, TAILS = 28 };
enum { SYLLABLES = LEADS * VOWELS * TAILS, FIRST_MARK = 0x300, GROWTH = 3, LONGEST = 1024 };

/* Code points since the last place where nothing can join, each with its combining class. */
typedef struct run {
    uint32_t *codes;  /* owned */
    uint8_t *classes; /* owned */
    int64_t count, room;
} run;

static eq_status push(eq_ctx *ctx, run *r, uint32_t code, uint8_t class)
{
    if (r->count == r->room) {
        int64_t room = 2 * r->room + 64;
        uint32_t *codes = eq_alloc(ctx, room, sizeof *codes);
        uint8_t *classes = eq_alloc(ctx, room, 1);
        if (!codes || !classes) {
            eq_free(codes);
            eq_free(classes);
            return EQ_ENOMEM;
        }
        if (r->count) {
            memcpy(codes, r->codes, (size_t)r->count * sizeof *codes);
            memcpy(classes, r->classes, (size_t)r->count);
        }
        eq_free(r->codes);
        eq_free(r->classes);
        r->codes = codes;
        r->classes = classes;
        r->room = room;
    }
    r->codes[r->count] = code;
    r->classes[r->count++] = class;
    return EQ_OK;
}

static uint8_t class_of(uint32_t code)
{
    int low = 0, high = EQ_NORMAL_CLASSES; /* the first run that ends at code or later */
    while (low < high) {
        int middle = (low + high) / 2;
        if (eq_normal_classes[3 * middle + 1] < code)
            low = middle + 1;
        else
            high = middle;
    }
    bool inside = low < EQ_NORMAL_CLASSES && eq_normal_classes[3 * low] <= code;
    return inside ? (uint8_t)eq_normal_classes[3 * low + 2] : 0;
}

/* The decomposition of a code point, NULL when it has none. */
static const uint32_t *parts_of(uint32_t code)
{
    int low = 0, high = EQ_NORMAL_PAIRS;
    while (low < high) {
        int middle = (low + high) / 2;
        if (eq_normal_pairs[3 * middle] < code)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < EQ_NORMAL_PAIRS && eq_normal_pairs[3 * low] == code;
    return found ? &eq_normal_pairs[3 * low] : NULL;
}

/* Append a code point taken apart. Only the first of two parts can have parts of its own. */
static eq_status push_parts(eq_ctx *ctx, run *r, uint32_t code)
{
    enum { DEEP = 8 };
    uint32_t seconds[DEEP];
    int n = 0;
    if (code >= S && code < S + SYLLABLES) {
        uint32_t i = code - S, tail = i % TAILS;
        eq_status st = push(ctx, r, L + i / (VOWELS * TAILS), 0);
        if (st == EQ_OK) st = push(ctx, r, V + i % (VOWELS * TAILS) / TAILS, 0);
        return st == EQ_OK && tail ? push(ctx, r, T + tail, 0) : st;
    }
    for (const uint32_t *p = parts_of(code); p && n < DEEP; p = parts_of(code)) {
        code = p[1];
        if (p[2]) seconds[n++] = p[2];
    }
    eq_status st = push(ctx, r, code, class_of(code));
    while (st == EQ_OK && n--)
        st = push(ctx, r, seconds[n], class_of(seconds[n]));
    return st;
}

/* Order of (second, first) in the list of compositions. */
static int compare(const uint32_t *pair, uint32_t first, uint32_t second)
{
    if (pair[2] != second) return pair[2] < second ? -1 : 1;
    return pair[1] == first ? 0 : pair[1] < first ? -1 : 1;
}

/* The first composition whose parts are (second, first) or more. */
static int find_composed(uint32_t first, uint32_t second)
{
    int low = 0, high = EQ_NORMAL_COMPOSED;
    while (low < high) {
        int middle = (low + high) / 2;
        if (compare(&eq_normal_pairs[3 * eq_normal_composed[middle]], first, second) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The one code point for two, 0 when there is none. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    if (a >= L && a < L + LEADS && b >= V && b < V + VOWELS)
        return S + ((a - L) * VOWELS + (b - V)) * TAILS;
    if (a >= S && a < S + SYLLABLES && (a - S) % TAILS == 0 && b > T && b < T + TAILS)
        return a + (b - T);
    int i = find_composed(a, b);
    if (i == EQ_NORMAL_COMPOSED) return 0;
    const uint32_t *pair = &eq_normal_pairs[3 * eq_normal_composed[i]];
    return compare(pair, a, b) ? 0 : pair[0];
}

/* Whether a code point, or what it begins with when taken apart, may join one before it. */
static bool may_join(uint32_t code)
{
    if (code < FIRST_MARK) return false;
    for (const uint32_t *p = parts_of(code); p; p = parts_of(code))
        code = p[1];
    if (class_of(code)) return true;
    if ((code >= V && code < V + VOWELS) || (code > T && code < T + TAILS)) return true;
    int i = find_composed(0, code);
    return i < EQ_NORMAL_COMPOSED && eq_normal_pairs[3 * eq_normal_composed[i] + 2] == code;
}

/* Marks behind a character by their classes; equal ones stay in order. */
static void sort_marks(run *r)
{
    for (int64_t i = 1; i < r->count; i++) {
        uint32_t code = r->codes[i];
        uint8_t class = r->classes[i];
        int64_t at = i;
        for (; class && at > 0 && r->classes[at - 1] > class; at--) {
            r->codes[at] = r->codes[at - 1];
            r->classes[at] = r->classes[at - 1];
        }
        r->codes[at] = code;
        r->classes[at] = class;
    }
}

/* Put together what can be, and write the run out. */
static char *flush(run *r, char *out)
{
    int64_t n = 0, starter = -1;
    sort_marks(r);
    for (int64_t i = 0; i < r->count; i++) {
        uint32_t code = r->codes[i];
        uint8_t class = r->classes[i];
        bool blocked = starter < 0 || (n - 1 != starter && r->classes[n - 1] >= class);
        uint32_t one = blocked ? 0 : compose(r->codes[starter], code);
        if (one) {
            r->codes[starter] = one;
            continue;
        }
        if (!class) starter = n;
        r->codes[n] = code;
        r->classes[n++] = class;
    }
    for (int64_t i = 0; i < n; i++)
        out += eq_utf8_encode(out, r->codes[i]);
    r->count = 0;
    return out;
}

/* Whether everything is below the first code point that form C can change. */
static bool plain(const eq_text *text)
{
    for (size_t i = 0; i < text->size; i++)
        if ((uint8_t)text->data[i] >= 0xCC) return false;
    return true;
}

static eq_status normalize(eq_ctx *ctx, run *r, const eq_text *text, char **end)
{
    eq_status st = EQ_OK;
    for (size_t at = 0, size = 0; at < text->size && st == EQ_OK; at += size) {
        uint32_t code = 0;
        size = (size_t)eq_utf8_decode(text->data + at, text->size - at, &code);
        if (!size || !may_join(code) || r->count >= LONGEST) *end = flush(r, *end);
        if (size) {
            st = push_parts(ctx, r, code);
            continue;
        }
        *(*end)++ = text->data[at];
        size = 1;
    }
    *end = flush(r, *end);
    return st;
}

eq_status eq_normalize(eq_ctx *ctx, eq_text *text, char **owned)
{
    *owned = NULL;
    if (plain(text)) return EQ_OK;
    run r = {0};
    char *out = eq_alloc(ctx, (int64_t)text->size * GROWTH, 1), *end = out;
    eq_status st = out ? normalize(ctx, &r, text, &end) : EQ_ENOMEM;
    eq_free(r.codes);
    eq_free(r.classes);
    if (st != EQ_OK) {
        eq_free(out);
        return st;
    }
    *text = (eq_text){out, (size_t)(end - out)};
    *owned = out;
    return EQ_OK;
}
