#include "io/bpe.h"

#include <assert.h>

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t x = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(x >> 32);
}

eq_status eq_merges_init(eq_ctx *ctx, eq_merges *merges, int64_t room)
{
    *merges = (eq_merges){0};
    assert(room >= 0 && room <= EQ_MERGES_MOST);
    int64_t slots = 2;
    while (slots < 2 * room)
        slots *= 2;
    merges->list = eq_alloc(ctx, room, sizeof *merges->list);
    merges->slots = eq_alloc(ctx, slots, sizeof *merges->slots);
    merges->mask = (uint32_t)(slots - 1);
    if (merges->list && merges->slots) return EQ_OK;
    eq_merges_deinit(merges);
    return EQ_ENOMEM;
}

void eq_merges_deinit(eq_merges *merges)
{
    eq_free(merges->list);
    eq_free(merges->slots);
    *merges = (eq_merges){0};
}

/* The slot of a pair: the one that holds it, or the free one where it belongs. */
static uint32_t find_slot(const eq_merges *merges, int32_t left, int32_t right)
{
    uint32_t slot = hash_pair(left, right) & merges->mask;
    for (;; slot = (slot + 1) & merges->mask) {
        if (!merges->slots[slot]) return slot;
        const eq_merge *merge = &merges->list[merges->slots[slot] - 1];
        if (merge->left == left && merge->right == right) return slot;
    }
}

void eq_merges_add(eq_merges *merges, eq_merge merge)
{
    merges->list[merges->count++] = merge;
    merges->slots[find_slot(merges, merge.left, merge.right)] = merges->count;
}

int32_t eq_merges_find(const eq_merges *merges, int32_t left, int32_t right)
{
    return merges->slots[find_slot(merges, left, right)] - 1;
}

eq_status eq_word_reserve(eq_ctx *ctx, eq_word *word, int64_t n)
{
    if (n <= word->room) return EQ_OK;
    if (n > INT32_MAX)
        return eq_fail(ctx, EQ_EINVAL, "a piece of text of %lld bytes, at most %d are possible",
                       (long long)n, INT32_MAX);
    int64_t room = n < 256 ? 256 : n + n / 2;
    eq_word_deinit(word);
    word->symbols = eq_alloc(ctx, room, sizeof *word->symbols);
    word->heap = eq_alloc(ctx, room, 3 * sizeof *word->heap);
    if (!word->symbols || !word->heap) {
        eq_word_deinit(word);
        return EQ_ENOMEM;
    }
    word->room = room;
    return EQ_OK;
}

void eq_word_deinit(eq_word *word)
{
    eq_free(word->symbols);
    eq_free(word->heap);
    *word = (eq_word){0};
}

/* Put an item into a heap of `count` items whose smallest is at the front. */
static void heap_push(uint64_t *heap, int64_t count, uint64_t item)
{
    int64_t at = count;
    while (at > 0 && heap[(at - 1) / 2] > item) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* Take the smallest of `count` items, count >= 1. */
static uint64_t heap_pop(uint64_t *heap, int64_t count)
{
    uint64_t top = heap[0], item = heap[count - 1];
    int64_t last = count - 1, at = 0;
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= last) break;
        if (child + 1 < last && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= item) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return top;
}

/* Look up the merge of symbol `at` with its neighbour and queue it; gives the new heap size. A
 * piece of n symbols queues at most n - 1 at first and 2 for each of its at most n - 1 merges. */
static int64_t queue_pair(const eq_merges *merges, eq_word *word, int64_t queued, int32_t at)
{
    eq_symbol *symbol = &word->symbols[at];
    symbol->rank = -1;
    if (symbol->next < 0) return queued;
    symbol->rank = eq_merges_find(merges, symbol->id, word->symbols[symbol->next].id);
    if (symbol->rank < 0) return queued;
    heap_push(word->heap, queued, (uint64_t)symbol->rank << 32 | (uint32_t)at);
    return queued + 1;
}

int32_t eq_bpe_merge(const eq_merges *merges, eq_word *word, int32_t n)
{
    eq_symbol *symbols = word->symbols;
    int64_t queued = 0;
    for (int32_t i = 0; i < n; i++) {
        symbols[i].previous = i - 1;
        symbols[i].next = i + 1 < n ? i + 1 : -1;
        queued = queue_pair(merges, word, queued, i);
    }
    while (queued > 0) {
        uint64_t item = heap_pop(word->heap, queued--);
        int32_t at = (int32_t)(item & 0xffffffffu), rank = (int32_t)(item >> 32);
        eq_symbol *left = &symbols[at];
        if (left->rank != rank) continue; /* one of the pair has been merged since */
        eq_symbol *right = &symbols[left->next];
        left->id = merges->list[rank].merged;
        left->next = right->next;
        right->rank = -1;
        if (left->next >= 0) symbols[left->next].previous = at;
        queued = queue_pair(merges, word, queued, at);
        if (left->previous >= 0) queued = queue_pair(merges, word, queued, left->previous);
    }
    int32_t count = 0;
    for (int32_t at = n > 0 ? 0 : -1; at >= 0; at = symbols[at].next)
        symbols[count++].id = symbols[at].id;
    return count;
}
