/* The model card: README.md beside the weights, with what the model was made from and how far it
 * is from that. */
#include "eqat_internal.h"

#include "base/file.h"

/* Perplexity, divergence and agreement on the validation windows. */
static eq_status measure(eq_ctx *ctx, const eq_card *card, eq_eval_result *r)
{
    eq_checkpoint *checkpoint = NULL;
    eq_decoder *decoder = NULL;
    eq_status st = eq_checkpoint_open(ctx, &checkpoint, card->out);
    if (st == EQ_OK) st = eq_decoder_open(ctx, &decoder, checkpoint);
    if (st == EQ_OK) st = eq_perplexity(ctx, decoder, card->reference, &card->val, card->type, r);
    eq_decoder_close(decoder);
    eq_checkpoint_close(checkpoint);
    return st;
}

static void write_linears(eq_output *f, const eq_quantize_result *r)
{
    char words[EQ_GROUP_WORDS];
    if (r->mixed)
        eq_output_printf(f,
                         "the linears of the blocks have different bits, %.3f on average with "
                         "scales and\nzero points (`dynamic` of quantize_config.json); ",
                         r->bits_per_weight);
    else
        eq_output_printf(f,
                         "the linears of all blocks have %d bits (%.3f with scales and zero "
                         "points) in\n%s; ",
                         r->bits, r->bits_per_weight, eq_group_words(words, r->group));
}

/* What is said of the tensors outside the blocks. */
static void write_ends(eq_output *f, const eq_quantize_result *r)
{
    const int bits[] = {r->embed_bits, r->head_bits};
    static const char *const NAMES[] = {"the embedding", "the head"};
    if (bits[0] == 16 && bits[1] == 16) {
        eq_output_printf(f, "embedding, head and norms are not quantized. ");
        return;
    }
    for (int i = 0; i < 2; i++)
        if (bits[i] == 16)
            eq_output_printf(f, "%s is not quantized, ", NAMES[i]);
        else
            eq_output_printf(f, "%s has %d bits, ", NAMES[i], bits[i]);
    eq_output_printf(f, "the norms are not quantized. ");
}

/* What the tensors are, and who reads them. */
static const char *tensors_of(const eq_card *card)
{
    if (card->super && card->result->mixed)
        return "Super-blocks of ggml's K types and GPTQ-v2 tensors, as eqat reads them;\n`eqat "
               "export --format gguf` writes them for other programs";
    if (card->super)
        return "Super-blocks of ggml's K types, as eqat reads them and `eqat export --format "
               "gguf`\nwrites them for other programs";
    if (card->result->embed_bits != 16)
        return "GPTQ-v2 tensors, as eqat reads them; other programs have no quantized embedding";
    return "GPTQ-v2 tensors, as transformers, GPTQModel and eqat read them";
}

static void write_head(eq_output *f, const eq_card *card)
{
    const eq_quantize_result *r = card->result;
    char *name = eq_path_name(f->ctx, card->model), bits[16] = "mixed";
    if (!name) {
        f->status = EQ_ENOMEM;
        return;
    }
    if (!r->mixed) snprintf(bits, sizeof bits, "%d", r->bits);
    eq_output_printf(f,
                     "---\n%stags:\n- eqat\n%s- %s-bit\n---\n\n# %s in %s bits\n\n"
                     "The base model is %s. Quantized with eqat %s: ",
                     card->super ? "" : "library_name: transformers\n",
                     card->super ? "" : "- gptq\n", bits, name, bits, card->model, EQAT_VERSION);
    eq_free(name);
    write_linears(f, r);
    write_ends(f, r);
    eq_output_printf(f, "All tensors together have\n%lld bytes. %s.\n", (long long)r->bytes,
                     tensors_of(card));
}

static void write_table(eq_output *f, const eq_card *card, const eq_eval_result *r)
{
    eq_output_printf(f, "\n## On %lld windows of %lld tokens held out from the training%s\n\n",
                     (long long)card->val.n, (long long)card->val.T,
                     card->val.counts ? ", answers only" : "");
    eq_output_printf(f, "| model | perplexity | KL from the base | same first choice |\n"
                        "|---|---|---|---|\n");
    if (r->reference_perplexity > 0)
        eq_output_printf(f, "| base | %.2f | 0 | 100 %% |\n", r->reference_perplexity);
    eq_output_printf(f, "| this | %.2f |", r->perplexity);
    if (r->kl >= 0)
        eq_output_printf(f, " %.4f | %.1f %% |\n", r->kl, 100 * r->top1);
    else
        eq_output_printf(f, " | |\n");
}

static void write_settings(eq_output *f, const json_t *plan)
{
    json_t *shown = json_deep_copy(plan);
    json_object_del(json_object_get(shown, "info"), "state");
    char *text = json_dumps(shown, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(shown);
    if (text) eq_output_printf(f, "\n## Settings\n\n```json\n%s\n```\n", text);
    free(text);
}

eq_status eq_card_plan(eq_ctx *ctx, const eq_decoder *model, bool reference, int64_t T,
                       eq_dtype type, int64_t held, int64_t limit)
{
    double need = (double)(held + eq_perplexity_bytes(ctx, model, reference, T, type)) / (1 << 20);
    double most = (double)limit / (1 << 20);
    eq_log(ctx, EQ_LOG_INFO, "plan: measuring the finished model takes %.0f MiB of memory", need);
    if (!limit || need <= most) return EQ_OK;
    return eq_fail(
        ctx, EQ_ENOMEM,
        "measuring the finished model needs %.1f MiB and may use %.1f MiB; give a larger "
        "--memory, a smaller --seqlen or --val-samples 0",
        need, most);
}

eq_status eq_card_write(eq_ctx *ctx, const eq_card *card)
{
    eq_eval_result r = {.kl = -1, .top1 = -1, .reference_perplexity = -1};
    eq_output f = {0};
    bool measured = card->val.n > 0;
    eq_status st = measured ? measure(ctx, card, &r) : EQ_OK;
    char *path = st == EQ_OK ? eq_path_join(ctx, card->out, "README.md") : NULL;
    if (st == EQ_OK) st = path ? eq_output_open(ctx, &f, path) : EQ_ENOMEM;
    if (st == EQ_OK) {
        write_head(&f, card);
        if (measured) write_table(&f, card, &r);
        write_settings(&f, card->plan);
        st = eq_output_commit(&f);
    }
    eq_free(path);
    if (st == EQ_OK && measured) {
        card->result->val_perplexity = r.perplexity;
        card->result->val_reference_perplexity = r.reference_perplexity;
        card->result->val_kl = r.kl;
        card->result->val_top1 = r.top1;
    }
    return st;
}
