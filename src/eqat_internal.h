/* What the parts of the API share. */
#ifndef EQ_EQAT_INTERNAL_H
#define EQ_EQAT_INTERNAL_H

#include "eval/perplexity.h"
#include "io/tokenizer.h"
#include "io/tokens.h"
#include "model/decoder.h"

struct eq_model {
    eq_checkpoint *checkpoint; /* owned */
    eq_decoder *decoder;       /* owned */
    eq_tokenizer *tokenizer;   /* owned; NULL when the model has none */
    eq_model_info info;
};

/* EQ_EINVAL when the model has no tokenizer. */
eq_status eq_model_need_tokenizer(eq_ctx *ctx, const eq_model *model);

/* The tokenizer of a checkpoint; *tok is NULL when its folder has no tokenizer.json. */
eq_status eq_checkpoint_tokenizer(eq_ctx *ctx, eq_tokenizer **tok, const eq_checkpoint *checkpoint);

/* Tokens that end a text that the model writes by itself, from eos_token_id of the configuration (a
 * number or a list); returns how many. */
enum { EQ_MAX_ENDS = 8 };
int64_t eq_end_tokens(const eq_checkpoint *checkpoint, int32_t ends[EQ_MAX_ENDS]);

/* Tokenizer files for the folder `out`: written from a GGUF, copied from a folder. */
eq_status eq_tokenizer_files(eq_ctx *ctx, const eq_checkpoint *checkpoint,
                             const eq_tokenizer *tokenizer, const char *out);

/* Windows of a training: calibration, and validation from files of their own or the last ones. */
typedef struct eq_data {
    eq_token_windows calib, own_val;          /* owned */
    const int32_t *train, *val;               /* [samples, seqlen], [val_samples, seqlen] of them */
    int64_t train_windows, val_windows;       /* at most what the job asks for */
    const uint8_t *train_counts, *val_counts; /* the same of eq_token_windows.counts, or NULL */
} eq_data;

/* The lengths that EfficientQAT cuts instructions to. */
eq_example_options eq_example_defaults(void);

typedef struct eq_data_job {
    const eq_data_options *options;
    const eq_decoder *decoder;     /* samples the text of "self" */
    const eq_tokenizer *tokenizer; /* NULL: only token files will do */
    int64_t samples, val_samples;  /* at most; at least one of each that is asked for */
    uint64_t seed;
    eq_dtype type;      /* of the products of "self" */
    int64_t memory;     /* bytes that "self" may take; 0: what the machine has left */
    const char *folder; /* where "self" looks for its windows, and keeps them */
    bool all;           /* fewer windows than are asked for will not do */
} eq_data_job;

/* Passes over so many windows, for epochs that may be EQ_EPOCHS_BY_WORK. */
int eq_data_passes(const eq_data_options *options, int epochs, int64_t windows);
/* Whether the calibration text is sampled from the model. */
bool eq_data_is_made(const eq_data_options *options);
/* data is freed with eq_data_deinit, also after a failure. */
eq_status eq_data_load(eq_ctx *ctx, const eq_data_job *job, eq_data *data);
/* Windows of options->calib, which is a file, alone: samples of them, 0 all that there are, at
 * least one. Freed with eq_windows_deinit, also after a failure. */
eq_status eq_data_text(eq_ctx *ctx, const eq_data_job *job, eq_token_windows *windows);
/* Keep windows that were made (eq_data_is_made) in the folder, for later calls. */
eq_status eq_data_keep(eq_ctx *ctx, const eq_data_job *job, const eq_data *data);
/* Add to a plan what is asked for besides the windows themselves, for which eq_data_hash stands:
 * how they are used, and the seed of windows that are made. */
void eq_data_describe(json_t *options, const eq_data_options *data, uint64_t seed);
/* Add to a plan's "info" where the windows are from, and how many there are once they are
 * loaded. */
void eq_data_inform(json_t *info, const eq_data_options *options, const eq_data *data);
void eq_data_deinit(eq_data *data);
uint64_t eq_data_hash(const eq_data *data);

/* What a model card is made from. */
typedef struct eq_card {
    const char *out, *model;     /* the folder, and the path of what it was made from */
    const json_t *plan;          /* of the run */
    const eq_decoder *reference; /* full precision; NULL: no divergence */
    eq_eval_windows val;         /* n may be 0 */
    eq_dtype type;
    eq_quantize_result *result; /* all but the val_ figures in, those out */
    bool super;                 /* some linears are super-blocks */
} eq_card;

/* EQ_ENOMEM when measuring for the card on windows of T tokens, beside `held` bytes that stay,
 * takes more than `limit` bytes; 0: no limit. */
eq_status eq_card_plan(eq_ctx *ctx, const eq_decoder *model, bool reference, int64_t T,
                       eq_dtype type, int64_t held, int64_t limit);
/* Measure the finished model in the folder on the tokens of the validation windows that count, and
 * write its README.md. */
eq_status eq_card_write(eq_ctx *ctx, const eq_card *card);

/* "groups of 64", or "whole rows" for -1; returns out. */
enum { EQ_GROUP_WORDS = 32 };
const char *eq_group_words(char out[EQ_GROUP_WORDS], int64_t group);
/* For the plan of a run: a fingerprint as text, and the options of the end-to-end phase. */
json_t *eq_hash_text(uint64_t hash);
json_t *eq_tune_describe(const eq_tune_options *options);
/* Whether AdamW can run with these. */
bool eq_adam_fine(double beta1, double beta2, double epsilon, double weight_decay);
/* EQ_EINVAL for options of the end-to-end phase that cannot be. */
eq_status eq_tune_check(eq_ctx *ctx, const eq_tune_options *options);

#endif
