/* The end of a command that writes a model. */
#include "app/output.h"

#include <math.h>
#include <stdio.h>

/* A figure that was not measured is null in JSON. */
static double known(double value, const eq_quantize_result *r)
{
    return r->val_perplexity > 0 && value >= 0 ? value : NAN;
}

static eq_status print_json(eq_session *session, const eq_written *w, const eq_quantize_result *r)
{
    json_t *line = json_pack(
        "{s:s, s:i, s:I, s:b, s:o, s:i, s:i, s:I, s:I, s:o, s:I, s:o, s:o, s:o}", "output",
        w->folder, "bits", r->bits, "group", (json_int_t)r->group, "mixed", (int)r->mixed,
        "bits_per_weight", eq_json_real(r->bits_per_weight), "embed_bits", r->embed_bits,
        "head_bits", r->head_bits, "bytes", (json_int_t)r->bytes, "blocks_resumed",
        (json_int_t)r->blocks_resumed, "seconds", eq_json_real(r->seconds), "peak_memory",
        (json_int_t)eq_peak_memory(), "val_perplexity", eq_json_real(known(r->val_perplexity, r)),
        "val_kl", eq_json_real(known(r->val_kl, r)), "val_top1",
        eq_json_real(known(r->val_top1, r)));
    if (w->gguf) json_object_set_new(line, "gguf", json_string(w->gguf));
    return eq_json_print(session, line);
}

static void print_summary(const eq_written *w, const eq_quantize_result *r)
{
    char size[32], memory[32];
    eq_format_bytes(size, sizeof size, r->bytes);
    eq_format_bytes(memory, sizeof memory, eq_peak_memory());
    printf("output           %s\n", w->folder);
    if (w->gguf) printf("GGUF file        %s\n", w->gguf);
    printf("size             %s, %.3f bits per quantized weight\n", size, r->bits_per_weight);
    if (r->embed_bits != 16 || r->head_bits != 16)
        printf("embedding, head  %d and %d bits\n", r->embed_bits, r->head_bits);
    if (r->blocks_resumed > 0)
        printf("resumed          %lld blocks were there already\n", (long long)r->blocks_resumed);
    if (r->val_perplexity > 0) printf("held-out text    perplexity %.2f", r->val_perplexity);
    if (r->val_perplexity > 0 && r->val_reference_perplexity > 0)
        printf(" (full precision %.2f), KL %.4f, %.1f %% same first choice",
               r->val_reference_perplexity, r->val_kl, 100 * r->val_top1);
    if (r->val_perplexity > 0) printf("\n");
    printf("time             %.1f s\n", r->seconds);
    printf("peak memory      %s\n", memory);
}

int eq_finish_run(eq_session *session, const eq_written *written, const eq_quantize_result *result,
                  eq_status status, bool json)
{
    if (status == EQ_EINTERRUPTED)
        eq_session_fail(session, status,
                        "interrupted; the same command goes on where it stopped, from %s",
                        written->folder);
    if (status == EQ_OK) {
        eq_console_clear(&session->console);
        if (json)
            status = print_json(session, written, result);
        else
            print_summary(written, result);
    }
    return eq_session_close(session, status);
}
