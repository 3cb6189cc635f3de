/* eqat inspect: what a model is. */
#include "app/options.h"
#include "app/output.h"

#include <stdio.h>

static eq_status print_json(eq_session *session, const eq_model_info *m)
{
    return eq_json_print(
        session,
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:I, s:b, s:o, "
                  "s:i, s:i, s:b}",
                  "family", m->family, "blocks", (json_int_t)m->blocks, "hidden",
                  (json_int_t)m->hidden, "mlp", (json_int_t)m->mlp, "heads", (json_int_t)m->heads,
                  "kv_heads", (json_int_t)m->kv_heads, "head_size", (json_int_t)m->head_size,
                  "vocabulary", (json_int_t)m->vocabulary, "context", (json_int_t)m->context,
                  "parameters", (json_int_t)m->parameters, "bytes", (json_int_t)m->bytes, "bits",
                  m->bits, "group", (json_int_t)m->group, "mixed", (int)m->mixed, "bits_per_weight",
                  eq_json_real(m->bits_per_weight), "embed_bits", m->embed_bits, "head_bits",
                  m->head_bits, "tokenizer", (int)m->has_tokenizer));
}

static void print_table(const eq_model_info *m)
{
    char size[32];
    eq_format_bytes(size, sizeof size, m->bytes);
    printf("family      %s\n", m->family);
    printf("blocks      %lld\n", (long long)m->blocks);
    printf("hidden      %lld, MLP %lld\n", (long long)m->hidden, (long long)m->mlp);
    printf("heads       %lld of %lld, %lld for keys and values\n", (long long)m->heads,
           (long long)m->head_size, (long long)m->kv_heads);
    printf("vocabulary  %lld, %s tokenizer\n", (long long)m->vocabulary,
           m->has_tokenizer ? "with" : "without");
    printf("context     %lld\n", (long long)m->context);
    printf("parameters  %.1f million, %s stored\n", 1e-6 * (double)m->parameters, size);
    if (m->group == 0 && m->bits_per_weight < 16)
        printf("weights     %.3f bits in blocks of ggml's types\n", m->bits_per_weight);
    else if (m->group == 0)
        printf("weights     full precision\n");
    else if (m->mixed)
        printf("weights     mixed, %.3f bits on average with scales and zero points\n",
               m->bits_per_weight);
    else if (m->group < 0)
        printf("weights     %d bits, whole rows\n", m->bits);
    else
        printf("weights     %d bits in groups of %lld\n", m->bits, (long long)m->group);
    if (m->embed_bits != 16 || m->head_bits != 16)
        printf("embedding   %d bits, head %d bits\n", m->embed_bits, m->head_bits);
}

static int run(const void *arguments)
{
    const eq_common *args = arguments;
    eq_session session;
    eq_status status = eq_session_open(&session, args, true);
    if (status == EQ_OK) {
        const eq_model_info *info = eq_model_get_info(session.model);
        if (args->json)
            status = print_json(&session, info);
        else
            print_table(info);
    }
    return eq_session_close(&session, status);
}

const eq_command eq_cmd_inspect = {.name = "inspect",
                                   .summary = "Show the shape, size and bits of a model",
                                   .details = "Examples:\n"
                                              "  eqat inspect models/smollm2-135m-instruct.gguf\n"
                                              "  eqat inspect out/w3 --json\n",
                                   .size = sizeof(eq_common),
                                   .run = run};
