#include "io/bpe.h"

#include "base/hash.h"

/* The byte alphabet of GPT-2: printable bytes stand for themselves, the other 68 for U+0100 and on.   [spec formats.md 3] */
static bool is_printable(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* Code point of each byte. */
static void make_alphabet(uint32_t points[256])
{
    uint32_t next = 256;
    for (int b = 0; b < 256; b++)
        points[b] = is_printable(b) ? (uint32_t)b : next++;
}

size_t eq_bpe_to_alphabet(char *out, eq_text bytes)
{
    uint32_t points[256];
    size_t n = 0;
    make_alphabet(points);
    for (size_t i = 0; i < bytes.size; i++) {
        uint32_t p = points[(uint8_t)bytes.data[i]];
        if (p < 128) {
            out[n++] = (char)p;
            continue;
        }
        out[n++] = (char)(0xc0 | p >> 6);
        out[n++] = (char)(0x80 | (p & 63));
    }
    return n;
}

/* The bytes that a token in the alphabet stands for; false for a character outside it. out holds in.size bytes. */
static bool from_alphabet(char *out, size_t *size, eq_text in)
{
    uint32_t points[256];
    uint8_t bytes[512] = {0};
    bool known[512] = {false};
    make_alphabet(points);
    for (int b = 0; b < 256; b++) {
        bytes[points[b]] = (uint8_t)b;
        known[points[b]] = true;
    }
    *size = 0;
    for (size_t i = 0; i < in.size; i++) {
        uint32_t p = (uint8_t)in.data[i];
        if (p >= 0x80) {
            if (p < 0xc0 || p >= 0xc8 || i + 1 >= in.size) return false;
            p = (p & 31) << 6 | ((uint8_t)in.data[++i] & 63);
        }
        if (p >= 512 || !known[p]) return false;
        out[(*size)++] = (char)bytes[p];
    }
    return true;
}

static int64_t power_above(int64_t n)
{
    int64_t p = 16;
    while (p < 2 * n)
        p *= 2;
    return p;
}

static bool same(eq_text a, eq_text b)
{
    return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

/* Slot of a piece: where it is, or the empty one where it belongs. */
static int64_t find_slot(const eq_bpe *bpe, eq_text piece)
{
    int64_t mask = bpe->slot_count - 1;
    int64_t i = (int64_t)(eq_hash(EQ_HASH_START, piece.data, piece.size) & (uint64_t)mask);
    while (bpe->slots[i] >= 0 && !same(bpe->pieces[bpe->slots[i]], piece))
        i = (i + 1) & mask;
    return i;
}

eq_status eq_bpe_init(eq_ctx *ctx, eq_bpe *bpe, const eq_text *tokens, const bool *raw,
                      int64_t size, const char *what)
{
    *bpe = (eq_bpe){.size = size, .slot_count = power_above(size)};
    size_t total = 0;
    for (int64_t i = 0; i < size; i++)
        total += tokens[i].size;
    bpe->pieces = eq_alloc(ctx, size, sizeof *bpe->pieces);
    bpe->bytes = eq_alloc(ctx, (int64_t)total, 1);
    bpe->slots = eq_alloc(ctx, bpe->slot_count, sizeof *bpe->slots);
    if (!bpe->pieces || !bpe->bytes || !bpe->slots) return EQ_ENOMEM;
    memset(bpe->slots, 0xff, (size_t)bpe->slot_count * sizeof *bpe->slots);
    char *at = bpe->bytes;
    for (int64_t i = 0; i < size; i++) {
        size_t n = tokens[i].size;
        if (raw[i])
            memcpy(at, tokens[i].data, n);
        else if (!from_alphabet(at, &n, tokens[i]))
            return eq_fail(ctx, EQ_EFORMAT, "%s: token %lld is not in the byte alphabet", what,
                           (long long)i);
        bpe->pieces[i] = (eq_text){at, n};
        at += n;
        if (raw[i]) continue;
        int64_t slot = find_slot(bpe, bpe->pieces[i]);
        if (bpe->slots[slot] < 0) bpe->slots[slot] = (int32_t)i;
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        bpe->byte_ids[b] = bpe->slots[find_slot(bpe, (eq_text){&byte, 1})];
    }
    return EQ_OK;
}

void eq_bpe_deinit(eq_bpe *bpe)
{
    eq_free(bpe->pieces);
    eq_free(bpe->bytes);
    eq_free(bpe->slots);
    eq_free(bpe->merges);
    *bpe = (eq_bpe){0};
}

eq_status eq_bpe_reserve(eq_ctx *ctx, eq_bpe *bpe, int64_t merges)
{
    bpe->merge_slots = power_above(merges);
    bpe->merges = eq_alloc(ctx, bpe->merge_slots, sizeof *bpe->merges);
    if (!bpe->merges) return EQ_ENOMEM;
    for (int64_t i = 0; i < bpe->merge_slots; i++)
        bpe->merges[i].left = -1;
    return EQ_OK;
}

static eq_bpe_merge *find_merge(const eq_bpe *bpe, int32_t left, int32_t right)
{
    int64_t mask = bpe->merge_slots - 1;
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    int64_t i = (int64_t)(key >> 32) & mask;
    while (bpe->merges[i].left >= 0 &&
           (bpe->merges[i].left != left || bpe->merges[i].right != right))
        i = (i + 1) & mask;
    return &bpe->merges[i];
}

eq_status eq_bpe_add_merge(eq_ctx *ctx, eq_bpe *bpe, eq_text left, eq_text right, int32_t rank,
                           const char *what)
{
    char *bytes = eq_alloc(ctx, (int64_t)(left.size + right.size), 1);
    if (!bytes) return EQ_ENOMEM;
    size_t a = 0, b = 0;
    bool known = from_alphabet(bytes, &a, left) && from_alphabet(bytes + a, &b, right);
    int32_t l = -1, r = -1, merged = -1;
    if (known) {
        l = bpe->slots[find_slot(bpe, (eq_text){bytes, a})];
        r = bpe->slots[find_slot(bpe, (eq_text){bytes + a, b})];
        merged = bpe->slots[find_slot(bpe, (eq_text){bytes, a + b})];
    }
    eq_free(bytes);
    if (l < 0 || r < 0 || merged < 0)
        return eq_fail(ctx, EQ_EFORMAT, "%s: merge %d speaks of a token that is not there", what,
                       rank);
    eq_bpe_merge *m = find_merge(bpe, l, r);
    if (m->left < 0) *m = (eq_bpe_merge){l, r, rank, merged};
    return EQ_OK;
}

/* Repeatedly the pair of lowest rank, the leftmost of equals. Pieces are words: a scan beats a heap up to some
 * hundred symbols, and longer ones are cut by the caller. */
int64_t eq_bpe_merge_all(const eq_bpe *bpe, int32_t *ids, int64_t n)
{
    while (n > 1) {
        int64_t at = -1;
        const eq_bpe_merge *best = NULL;
        for (int64_t i = 0; i + 1 < n; i++) {
            const eq_bpe_merge *m = find_merge(bpe, ids[i], ids[i + 1]);
            if (m->left < 0 || (best && m->rank >= best->rank)) continue;
            best = m;
            at = i;
        }
        if (!best) break;
        ids[at] = best->merged;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
        n--;
    }
    return n;
}
