#include "support_chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chat_vocab_init(chat_vocab *chat, const char *template)
{
    static const char *const names[] = {"<|im_start|>",      "<|im_end|>", "<|start_header_id|>",
                                        "<|end_header_id|>", "<|eot_id|>", "<pad>",
                                        "\u010a\u010a"};
    small_vocab_init(&chat->small);
    memcpy(chat->tokens, chat->small.tokens, sizeof chat->small.tokens);
    memcpy(chat->types, chat->small.types, sizeof chat->small.types);
    memcpy(chat->merges, chat->small.merges, sizeof chat->small.merges);
    for (int id = SMALL_COUNT; id < CHAT_COUNT; id++) {
        const char *name = names[id - SMALL_COUNT];
        chat->tokens[id] = (eq_text){name, strlen(name)};
        chat->types[id] = id == CHAT_NEWLINES ? EQ_TOKEN_NORMAL : EQ_TOKEN_CONTROL;
    }
    chat->merges[SMALL_MERGES] = (eq_text){"\u010a \u010a", 5};
    chat->vocab = chat->small.vocab;
    chat->vocab.tokens = chat->tokens;
    chat->vocab.types = chat->types;
    chat->vocab.n = CHAT_COUNT;
    chat->vocab.merges = chat->merges;
    chat->vocab.m = SMALL_MERGES + 1;
    if (template) chat->vocab.chat_template = (eq_text){template, strlen(template)};
}

char *marked_text(const eq_tokenizer *tok, const int32_t *ids, const uint8_t *counts, int64_t n)
{
    char *text = NULL;
    size_t size = 0;
    bool inside = false;
    FILE *out = open_memstream(&text, &size);
    if (!out) abort();
    for (int64_t i = 0; i < n; i++) {
        size_t bytes = 0;
        const char *piece = eq_tokenizer_piece(tok, ids[i], &bytes);
        if (inside != (counts[i] != 0)) fputc(inside ? '}' : '{', out);
        inside = counts[i] != 0;
        fwrite(piece, 1, bytes, out);
    }
    if (inside) fputc('}', out);
    fclose(out);
    return text;
}

bool marked_is(const eq_tokenizer *tok, const eq_marked *list, const char *want)
{
    char *got = marked_text(tok, list->ids, list->counts, list->count);
    bool same = !strcmp(got, want);
    if (!same) printf("got:\n%s\nwanted:\n%s\n", got, want);
    free(got);
    return same;
}
