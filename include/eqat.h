/* eqat: quantization-aware training of language models on the CPU.
 *
 * Everything starts with a context (eq_ctx_new). Functions that can fail return an eq_status and
 * leave one message in the context (eq_ctx_message); the first message wins. An object returned
 * through a pointer to a pointer belongs to the caller, who frees it with the function named
 * beside it. Nothing here calls exit, prints, or keeps global state. */
#ifndef EQAT_H
#define EQAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define EQ_API
#else
#define EQ_API __attribute__((visibility("default")))
#endif

typedef enum eq_status {
    EQ_OK = 0,
    EQ_EIO,          /* the operating system refused: open, read, write, disk full */
    EQ_EFORMAT,      /* a file is not what it claims to be, or of a kind that is not supported */
    EQ_EINVAL,       /* an option or argument is out of range, or options do not fit the model */
    EQ_ENOMEM,       /* memory ran out, or the plan does not fit the limit */
    EQ_EMISMATCH,    /* a run folder was made with other options or data */
    EQ_ENUMERIC,     /* a loss or weight is not finite */
    EQ_EINTERRUPTED, /* the caller asked to stop; the run can be resumed */
    EQ_EINTERNAL     /* a library below failed in a way that should not happen */
} eq_status;

/* ---- context ------------------------------------------------------------------------------- */

typedef struct eq_ctx eq_ctx;

typedef enum eq_log_level { EQ_LOG_INFO, EQ_LOG_WARNING } eq_log_level;

/* What a long task has done so far. Unknown numbers are negative. */
typedef struct eq_progress {
    const char *task; /* "block 3/30, epoch 1/2" */
    const char *unit; /* what done and total count: "steps", "windows" */
    int64_t done, total;
    double loss;
    double per_second;   /* tokens per second */
    double seconds_left; /* of this phase: all blocks, the whole model's training */
} eq_progress;

/* Callbacks; each may be NULL. They come from the thread that called the library. */
typedef struct eq_callbacks {
    void (*log)(void *user, eq_log_level level, const char *line);
    void (*progress)(void *user, const eq_progress *progress);
    bool (*should_stop)(void *user); /* asked between steps; true ends with EQ_EINTERRUPTED */
    void *user;
} eq_callbacks;

typedef struct eq_ctx_options {
    int threads;     /* 0: one per processor */
    const char *isa; /* "ref", "avx2", "avx512", "vnni"; NULL: the best of this CPU */
    eq_callbacks callbacks;
} eq_ctx_options;

/* options may be NULL. Fails with EQ_EINVAL for an isa that the CPU cannot run (no message: there
 * is no context yet) or EQ_ENOMEM. */
EQ_API eq_status eq_ctx_new(eq_ctx **ctx, const eq_ctx_options *options);
EQ_API void eq_ctx_free(eq_ctx *ctx); /* NULL is fine */
/* Message of the first failure since the start or eq_ctx_clear; "" when there was none. Owned by
 * the context. */
EQ_API const char *eq_ctx_message(const eq_ctx *ctx);
EQ_API void eq_ctx_clear(eq_ctx *ctx);
EQ_API const char *eq_ctx_isa(const eq_ctx *ctx);
EQ_API int eq_ctx_threads(const eq_ctx *ctx);
EQ_API const char *eq_version(void);
/* Peak resident memory of this process (VmHWM) in bytes, 0 when unknown. */
EQ_API int64_t eq_peak_memory(void);
/* Free memory that a function of this header handed out. NULL is fine. */
EQ_API void eq_free(void *p);

/* Type of matrix products and of activations between them. */
typedef enum eq_precision {
    EQ_PRECISION_AUTO, /* bf16 where the CPU multiplies it natively, else f32 */
    EQ_PRECISION_F32,
    EQ_PRECISION_BF16
} eq_precision;

/* What products with quantized weights take when no gradient is wanted: activations in 8 bits, each
 * 32 columns with a scale of their own, or as they are. */
typedef enum eq_activation_mode { EQ_ACTIVATIONS_EXACT, EQ_ACTIVATIONS_8BIT } eq_activation_mode;

/* ---- models -------------------------------------------------------------------------------- */

/* A model: a Hugging Face folder or a GGUF file, full precision or quantized. Weights stay in
 * the mapped files. */
typedef struct eq_model eq_model;

typedef struct eq_model_info {
    char family[32]; /* "llama" (also for Mistral), "qwen2", "qwen3" */
    int64_t blocks, hidden, mlp, heads, kv_heads, head_size, vocabulary, context;
    int64_t parameters;        /* embedding counted once when tied */
    int64_t bytes;             /* of the files that hold the tensors */
    int bits;                  /* of the block linears: 16 when not quantized */
    int64_t group;             /* -1 whole row, 0 when not quantized */
    bool mixed;                /* some of the block linears have other bits or groups */
    double bits_per_weight;    /* stored, the mean of the block linears */
    int embed_bits, head_bits; /* of embedding and head: 16 when not quantized */
    bool has_tokenizer;
} eq_model_info;

EQ_API eq_status eq_model_open(eq_ctx *ctx, eq_model **model, const char *path);
EQ_API void eq_model_close(eq_model *model); /* NULL is fine */
EQ_API const eq_model_info *eq_model_get_info(const eq_model *model);

/* n bytes of text to ids [count], freed with eq_free. Text need not be valid UTF-8.
 * add_special adds what the tokenizer puts around a text (often a BOS). EQ_EINVAL without a
 * tokenizer. */
EQ_API eq_status eq_tokenize(eq_ctx *ctx, const eq_model *model, const char *text, size_t n,
                             bool add_special, int32_t **ids, int64_t *count);
/* ids [count] to text (NUL behind the last byte, size without it), freed with eq_free. */
EQ_API eq_status eq_detokenize(eq_ctx *ctx, const eq_model *model, const int32_t *ids,
                               int64_t count, char **text, size_t *size);
/* Logits of every position: out [count, vocabulary] f32, freed with eq_free. */
EQ_API eq_status eq_logits(eq_ctx *ctx, const eq_model *model, const int32_t *ids, int64_t count,
                           eq_precision precision, float **out);
/* Write rows x columns f32 in numpy's format. */
EQ_API eq_status eq_write_npy(eq_ctx *ctx, const char *path, const float *data, int64_t rows,
                              int64_t columns);

/* ---- evaluation ---------------------------------------------------------------------------- */

/* How instruction data are put: as a fixed text with headings, or in the model's chat format. */
typedef enum eq_instructions { EQ_INSTRUCTIONS_ALPACA, EQ_INSTRUCTIONS_CHAT } eq_instructions;

/* How instructions and conversations become tokens. */
typedef struct eq_example_options {
    eq_instructions instructions;
    const char *chat_format; /* "chatml", "llama2", "llama3", "mistral"; NULL: the model's own */
    /* Of instructions, conversations stay whole: tokens of a prompt and of an answer; 0: any. */
    int64_t source_max, target_max;
} eq_example_options;

typedef struct eq_eval_options {
    const char *text; /* what eq_data_options.calib may name but "self"; a mix needs `windows` */
    int64_t context;  /* tokens of a window, 2048 */
    int64_t windows;  /* the first so many; 0: all that fit */
    eq_example_options examples; /* as in training */
    eq_precision precision;
    eq_activation_mode activations; /* of the model, not the reference; exact */
    int kv_bits; /* of the model: 16 (or 0): keys and values as they are; 8, 4: as in a cache */
} eq_eval_options;

typedef struct eq_eval_result {
    int64_t windows,
        tokens;        /* tokens predicted: windows * (context - 1), of examples the answers' */
    double perplexity; /* exp of the mean negative log-likelihood */
    double kl;         /* mean KL(P_reference || P_model) in nats; negative without a reference */
    double top1;       /* share of positions with the same most likely token */
    double reference_perplexity; /* negative without a reference */
} eq_eval_result;

EQ_API eq_eval_options eq_eval_defaults(void);
/* reference may be NULL; it must have the same vocabulary. With activations in 8 bits, or kv_bits
 * below 16, and no reference, the reference is the model itself without them. */
EQ_API eq_status eq_evaluate(eq_ctx *ctx, const eq_model *model, const eq_model *reference,
                             const eq_eval_options *options, eq_eval_result *result);

/* ---- quantization -------------------------------------------------------------------------- */

typedef enum eq_method { EQ_METHOD_RTN, EQ_METHOD_BLOCK_AP } eq_method;
/* A zero point for each group and a scale above 0, or the fixed zero point 2^(bits-1) and a scale
 * of either sign: levels -2^(bits-1) s .. (2^(bits-1) - 1) s (see docs/math.md). */
typedef enum eq_grid {
    EQ_GRID_ASYMMETRIC,
    EQ_GRID_SYMMETRIC,
    /* Super-blocks of ggml's K types, of 2, 3 and 4 bits in groups of 16, 16 and 32: scales and
     * offsets are whole multiples of two halves for 256 columns (see docs/math.md). */
    EQ_GRID_Q2_K,
    EQ_GRID_Q3_K,
    EQ_GRID_Q4_K
} eq_grid;
typedef enum eq_start { EQ_START_MINMAX, EQ_START_MSE, EQ_START_WEIGHTED } eq_start;
typedef enum eq_loss { EQ_LOSS_MSE, EQ_LOSS_RELATIVE, EQ_LOSS_BOUNDED } eq_loss;
/* Gradients of weights at codes 0 and 2^bits - 1: as of any other, or none (see docs/math.md). */
typedef enum eq_edges { EQ_EDGES_INSIDE, EQ_EDGES_CLIPPED } eq_edges;
/* A cosine, or the same about one step ahead as EfficientQAT's code has it. */
typedef enum eq_schedule { EQ_SCHEDULE_COSINE, EQ_SCHEDULE_AHEAD } eq_schedule;
typedef enum eq_streams { EQ_STREAMS_AUTO, EQ_STREAMS_RAM, EQ_STREAMS_FILE } eq_streams;
typedef enum eq_order { EQ_ORDER_CONCAT, EQ_ORDER_RANDOM_DOC } eq_order;
/* How much is trained on how many windows: about an hour, ten minutes or two and a half hours for a
 * model of 135 million weights on two cores with AVX-512 BF16; or the settings of the EfficientQAT
 * paper. */
typedef enum eq_preset {
    EQ_PRESET_DEFAULT,
    EQ_PRESET_FAST,
    EQ_PRESET_BEST,
    EQ_PRESET_PAPER
} eq_preset;

/* What the end-to-end phase trains: the scales, as the paper does; the norms too; or also every
 * weight, through the rounding. */
typedef enum eq_train_what { EQ_TRAIN_SCALES, EQ_TRAIN_NORMS, EQ_TRAIN_ALL } eq_train_what;

/* As many passes as eq_data_options.work says. */
enum { EQ_EPOCHS_BY_WORK = -1 };

typedef struct eq_data_options {
    /* Text, .jsonl or .json (texts, instructions, conversations: docs/formats.md), or several of
     * them as "path:weight,path:weight"; int32 .npy [n, T]; or "self": text sampled from the
     * model. */
    const char *calib;
    const char *val; /* for validation, all of these but "self"; NULL: the last windows of calib */
    /* Windows for training and for validation; where the data have fewer, all of them. A mix of
     * several files must have as many as are asked for. */
    int64_t samples, val_samples;
    /* Windows that the end-to-end phase trains on, repeats counted, if its epochs are
     * EQ_EPOCHS_BY_WORK: it goes over those that there are 1 to 3 times, as comes closest. */
    int64_t work;
    int64_t seqlen; /* tokens of a window */
    eq_order order; /* of documents; at random: of one file, of its last tenth for validation */
    eq_example_options examples; /* not with documents at random, which are texts */
} eq_data_options;

typedef struct eq_train_options {
    eq_start start;        /* of scales and zero points */
    int64_t start_windows; /* windows that weigh the input channels for EQ_START_WEIGHTED */
    eq_loss loss;
    eq_edges edges;
    bool exact_scales; /* train with scales in f32, not as the file will hold them */
    int64_t samples;   /* windows for the blocks, evenly spaced among all; 0: all */
    int epochs;        /* passes over these; 0: none */
    int64_t batch;     /* windows of a step */
    double quant_lr;   /* of scales and zero points; 0 freezes them */
    double weight_lr;  /* of weights and norm weights; 0 freezes them */
    eq_schedule schedule;
    double min_lr_factor; /* the cosine ends at lr / factor */
    double beta1, beta2, epsilon, weight_decay;
    /* stop a block after so many epochs without a better validation loss; 0: never */
    int early_stop;
} eq_train_options;

/* The end-to-end phase: the whole quantized model against the next token, or against the
 * full-precision model's distribution. */
typedef struct eq_tune_options {
    int epochs; /* passes over the samples, or EQ_EPOCHS_BY_WORK; 0: none */
    eq_train_what train;
    double kl, ce;      /* weights of KL(full precision || model) and of cross-entropy */
    double temperature; /* of the distributions in the KL */
    /* Run the full-precision model once before the training and keep so many tokens of each
     * position on disk; all others count as one. 0: it runs alongside, nothing is left out. */
    int64_t teacher_top;
    int64_t batch; /* windows of a step */
    /* Learning rates; eq_finetune also takes EQ_RATE_BY_BITS. */
    double scale_lr, norm_lr, weight_lr;
    double warmup;        /* share of the steps in which the rates rise */
    double min_lr_factor; /* then a cosine to lr / factor; 0: to 0 */
    double clip;          /* largest norm of all gradients together; 0: any */
    double beta1, beta2, epsilon, weight_decay;
    double save_minutes; /* between saved states */
} eq_tune_options;

typedef struct eq_run_options {
    eq_precision precision;
    eq_streams streams; /* where the activations between blocks live */
    int64_t memory;     /* bytes the run may use; 0: what the machine has free */
    uint64_t seed;
    int64_t stop_after; /* stop (resumable) after so many blocks; 0: never */
} eq_run_options;

typedef struct eq_quantize_options {
    eq_method method;
    int bits;      /* 2, 3, 4 or 8 */
    int64_t group; /* divides every row, or -1: whole rows */
    eq_grid grid;  /* super-blocks: see eq_quantize_on_grid */
    bool gguf;     /* for a GGUF file: refuse grids that no ggml type holds (docs/formats.md),
                      target_bpw counts the bits of these types */
    /* Path of a file that gives units of blocks grids, bits and groups of their own
     * (docs/formats.md); NULL: those above for all. */
    const char *recipe;
    /* Or: choose the bits of every unit, by what rounding it does to the model's distributions, so
     * that a weight of the linears has at most so many bits on average, scales and zero points
     * included. The choice is written to OUT/run/recipe.json. 0: not so. */
    double target_bpw;
    /* Bits of the embedding and of the head: 8 or 4, symmetric in groups of 32, rounded before the
     * end-to-end phase; 16: as they are; 0: what the other says if the model has one tensor for
     * both, else 16, or 8 with gguf. */
    int embed_bits, head_bits;
    eq_data_options data;
    eq_train_options train;
    eq_tune_options tune; /* what follows the blocks */
    eq_run_options run;
} eq_quantize_options;

typedef struct eq_quantize_result {
    int bits;
    int64_t group;
    bool mixed;                /* some units have others */
    double seconds;            /* of this call */
    int64_t blocks_resumed;    /* blocks that were already there */
    int64_t bytes;             /* of the written tensors */
    int embed_bits, head_bits; /* 16: not quantized */
    double bits_per_weight;    /* of the quantized linears, scales and zero points included */
    /* Of the model on the validation windows, of full precision on them, and between the two; 0
     * when there are none, negative without a reference, 0 when the folder was finished before. */
    double val_perplexity, val_reference_perplexity, val_kl, val_top1;
} eq_quantize_result;

/* Defaults of the end-to-end phase by bit-width. */
EQ_API eq_tune_options eq_tune_defaults(int bits, eq_preset preset);
/* Defaults by bit-width. */
EQ_API eq_quantize_options eq_quantize_defaults(eq_method method, int bits, eq_preset preset);
/* Set grid and group to those of the ggml type that holds `bits` exactly (Q2_0, Q3_K, Q4_0, Q8_0),
 * and gguf: eq_export to a GGUF file, with exact, then loses nothing. */
EQ_API void eq_quantize_for_gguf(eq_quantize_options *options);
/* Bits of a grid of super-blocks; 0 for a grid of any bits. */
EQ_API int eq_grid_bits(eq_grid grid);
/* Train on this grid, with bits and group as it has them if it is one of super-blocks. Linears
 * whose rows are no whole super-blocks of 256 get the grid of Q2_0 (for Q2_K) or Q4_0. */
EQ_API void eq_quantize_on_grid(eq_quantize_options *options, eq_grid grid);
/* Quantize the model at `model` into the folder `out`: Hugging Face layout with GPTQ-v2 tensors, or
 * super-blocks as bytes (docs/formats.md).
 * Called again after an interruption it goes on where it was and gives the same bytes; with other
 * options or data it refuses (EQ_EMISMATCH). A finished folder is recognised and left as it is. */
EQ_API eq_status eq_quantize(eq_ctx *ctx, const char *model, const char *out,
                             const eq_quantize_options *options, eq_quantize_result *result);

/* The end-to-end phase alone. Of `run`, streams and stop_after have no effect. */
typedef struct eq_finetune_options {
    eq_data_options data;
    eq_tune_options tune;
    eq_run_options run;
} eq_finetune_options;

/* A learning rate that eq_finetune takes from eq_tune_defaults of the model's bits. */
enum { EQ_RATE_BY_BITS = -1 };
/* The rates are EQ_RATE_BY_BITS. */
EQ_API eq_finetune_options eq_finetune_defaults(void);
/* Train the quantized model in the folder `model` (super-blocks, or the layout of GPTQ, AWQ,
 * compressed-tensors, auto-round or EfficientQAT without activation order) as a whole, into the
 * folder `out`, as eq_quantize writes it.
 * reference: the full-precision model, for tune.kl above 0; may be NULL without. Goes on after an
 * interruption like eq_quantize. */
EQ_API eq_status eq_finetune(eq_ctx *ctx, const char *model, const char *reference, const char *out,
                             const eq_finetune_options *options, eq_quantize_result *result);

/* ---- export -------------------------------------------------------------------------------- */

typedef enum eq_export_format {
    EQ_EXPORT_GGUF, /* one file; each linear in the smallest ggml type that holds it */
    /* Folders: */
    EQ_EXPORT_DENSE,      /* every weight dequantized */
    EQ_EXPORT_GPTQ,       /* the codes as GPTQ's tensors */
    EQ_EXPORT_AWQ,        /* 4 bits, version gemm */
    EQ_EXPORT_COMPRESSED, /* compressed-tensors, pack-quantized */
    EQ_EXPORT_EQAT        /* the layout of EfficientQAT's authors */
} eq_export_format;

/* Types of a dense model. Halves are the closest 16 bits: (q - z) s of 2 bits is one. */
typedef enum eq_export_dtype { EQ_EXPORT_F16, EQ_EXPORT_BF16, EQ_EXPORT_F32 } eq_export_dtype;

typedef struct eq_export_options {
    eq_export_format format;
    /* gguf: take a type of more than 1.5 times the bits where no smaller one holds a linear. */
    bool allow_larger;
    /* gguf: no type that rounds offsets, so 4 bits with zero points become Q5_0, not Q4_1. */
    bool exact;
    eq_export_dtype dtype; /* dense */
    int gptq_version;      /* gptq: 2, or 1, which holds no zero point of 0 */
    int64_t shard_bytes;   /* folders: most bytes of tensors in a file; 0: one file */
} eq_export_options;

typedef struct eq_export_result {
    int64_t bytes;          /* of the file, or of the folder's weights */
    double bits_per_weight; /* of the block linears, measured in what was written */
    /* Largest |w - w'| between the model and what was written, read back; and what the format
     * allows for: 0 where it stores the same numbers. */
    double largest_error, error_bound;
    int64_t tokens; /* generated by the written model */
} eq_export_result;

EQ_API eq_export_options eq_export_defaults(eq_export_format format);
/* Write the model to `out`, a file or a folder that is not there yet, without quantizing anything
 * again. What was written is read back, compared weight by weight and made to generate before it
 * appears under its name. EQ_EINVAL names the linear that the format cannot hold; EQ_EINTERNAL when
 * what is read back is not what it should be. */
EQ_API eq_status eq_export(eq_ctx *ctx, const eq_model *model, const char *out,
                           const eq_export_options *options, eq_export_result *result);

/* ---- generation ---------------------------------------------------------------------------- */

/* How the next token is chosen; applied in this order (docs/math.md). */
typedef struct eq_generate_options {
    int64_t max_tokens;        /* 0: as many as fit */
    double repetition_penalty; /* of tokens that are in the text; 1: none */
    double temperature;        /* 0: greedy, and the rest does not count */
    int64_t top_k;             /* 0: all */
    double top_p;              /* 1: all */
    double min_p;              /* 0: all */
    uint64_t seed;
    eq_precision precision;         /* of eq_generate; an engine has its own */
    eq_activation_mode activations; /* the same; 8 bits */
    int kv_bits;                    /* the same; 0 */
} eq_generate_options;

EQ_API eq_generate_options eq_generate_defaults(void);
/* Continue ids [count]; `emit` gets each new token as it comes and ends the generation by returning
 * false.
 * Ends by itself after an end token (which is emitted) or max_tokens. */
EQ_API eq_status eq_generate(eq_ctx *ctx, const eq_model *model, const int32_t *ids, int64_t count,
                             const eq_generate_options *options,
                             bool (*emit)(void *user, int32_t id), void *user);

/* An engine continues several texts at once, each a request: every step reads a piece of the
 * prompts that wait and appends a token to each of the others, in one pass over the weights.
 *
 * The tokens of a request do not depend on what runs beside it, on when it was submitted or on the
 * number of threads; they do on `slots` above 4, on `chunk`, and on `memory` where an unquantized
 * head has no room, because products of other heights or forms may round differently. So may those
 * of a prompt whose beginning was kept from a request before: `fresh` rules that out.
 *
 * All functions of one engine are called from one thread at a time. */
typedef struct eq_engine eq_engine;

typedef struct eq_engine_options {
    int64_t slots;   /* texts at once, others wait */
    int64_t context; /* most tokens of a text, prompt included; 0: what the model was made for */
    int64_t chunk;   /* most tokens of a prompt in one step; 0: 256 for one slot, else 128 */
    int64_t memory;  /* bytes that the engine may take; 0: what the machine has free */
    eq_precision precision;
    eq_activation_mode activations; /* 8 bits */
    /* Of keys and values: 16: the type of products; 8, 4: packed; 0: 8 when activations are in 8
     * bits, else 16. */
    int kv_bits;
} eq_engine_options;

/* One slot. */
EQ_API eq_engine_options eq_engine_defaults(void);
/* Everything an engine needs is reserved here. EQ_ENOMEM says how large a context would fit. The
 * model must outlive the engine. */
EQ_API eq_status eq_engine_new(eq_ctx *ctx, eq_engine **engine, const eq_model *model,
                               const eq_engine_options *options);
EQ_API void eq_engine_free(eq_engine *engine);             /* NULL is fine */
EQ_API int64_t eq_engine_context(const eq_engine *engine); /* tokens of a text */
EQ_API int64_t eq_engine_memory(const eq_engine *engine);  /* bytes reserved */

typedef struct eq_request {
    const int32_t *ids; /* [count]: the prompt */
    int64_t count;
    eq_generate_options options;
    const char *const *stops; /* [stop_count]: texts that end the answer and are no part of it */
    int64_t stop_count;
    const int32_t *ends; /* [end_count]: tokens that end it besides the model's own */
    int64_t end_count;
    int64_t top_logprobs; /* so many of the most likely tokens with each new one, at most 20 */
    bool fresh;           /* read the whole prompt, even if its beginning is in the cache */
    void *user;           /* comes back with every event */
} eq_request;

typedef struct eq_logprob {
    int32_t token;
    float logprob; /* natural logarithm of the model's probability */
} eq_logprob;

typedef enum eq_finish {
    EQ_FINISH_NONE,
    EQ_FINISH_STOP,      /* an end token or a stop string */
    EQ_FINISH_LENGTH,    /* max_tokens, or the context is full */
    EQ_FINISH_CANCELLED, /* eq_engine_cancel */
    EQ_FINISH_FAILED     /* the model's logits are not finite */
} eq_finish;

/* What a step did for one request. Pointers are valid until the next step. */
typedef struct eq_event {
    int64_t request;
    void *user;
    int32_t token;         /* -1: none */
    float logprob;         /* of it */
    const eq_logprob *top; /* [top_count] */
    int64_t top_count;
    const char *text; /* [size]: whole characters (UTF-8) that are sure now; not ended by a NUL */
    size_t size;
    eq_finish finish; /* other than EQ_FINISH_NONE: the last event of the request */
    /* So far: tokens of the prompt, those of them that were in the cache, new tokens; seconds from
     * the first step to the first token, and from there. */
    int64_t prompt_tokens, cached_tokens, new_tokens;
    double prompt_seconds, generation_seconds;
} eq_event;

/* Queue a request, all of which is copied; *id numbers it, from 1. EQ_EINVAL for a prompt that does
 * not fit and options out of range; a caller that goes on calls eq_ctx_clear. */
EQ_API eq_status eq_engine_submit(eq_ctx *ctx, eq_engine *engine, const eq_request *request,
                                  int64_t *id);
/* End a request at the next step; nothing happens to one that has ended. */
EQ_API void eq_engine_cancel(eq_engine *engine, int64_t id);
/* Requests that have not ended. */
EQ_API int64_t eq_engine_pending(const eq_engine *engine);
/* One step; nothing happens when none is pending. After a failure the engine can only be freed,
 * but for EQ_EINTERRUPTED: after eq_ctx_clear the next step goes on. */
EQ_API eq_status eq_engine_step(eq_ctx *ctx, eq_engine *engine);
/* The next event of the last step; false when there is none left. Those that were not fetched are
 * lost with the next step. */
EQ_API bool eq_engine_poll(eq_engine *engine, eq_event *event);

/* The messages of a chat as the token ids that the model was trained with, an answer to follow.
 *
 * format  in   "chatml", "llama2", "llama3" or "mistral"; NULL: that of the model's template
 * roles   in   [n]: "system" (only first), "user" and "assistant" in turn, the last "user"
 * texts   in   [n]
 * ids     out  [count], freed with eq_free
 * end     out  the token that ends an answer
 * EQ_EINVAL without a tokenizer, for a format that is unknown or does not fit the vocabulary, and
 * for messages out of order. */
EQ_API eq_status eq_chat_ids(eq_ctx *ctx, const eq_model *model, const char *format,
                             const char *const *roles, const char *const *texts, int64_t n,
                             int32_t **ids, int64_t *count, int32_t *end);

/* Bytes of one token (not always whole characters), borrowed from the model; size out. */
EQ_API const char *eq_token_bytes(const eq_model *model, int32_t id, size_t *size);

/* ---- bench --------------------------------------------------------------------------------- */

typedef struct eq_bench_row {
    const char *group; /* "gemm", "kernel", "step", "e2e", "decode" */
    const char *name;
    const char *unit; /* "GFLOP/s", "GB/s", "s", "tokens/s" and others */
    double value;
    double share; /* of the peak (GEMM or memory bandwidth), negative when it has none */
} eq_bench_row;

typedef struct eq_bench_options {
    const char *only; /* a group; NULL: all */
    /* Of "decode": */
    int64_t prompt, texts; /* tokens read before 128 are written, and texts at once */
    int kv_bits;           /* of keys and values; 0: as eq_engine_options has it */
} eq_bench_options;

EQ_API eq_bench_options eq_bench_defaults(void);

/* Measure the machine on the shapes of `model` (NULL: SmolLM2-135M, without "decode"). */
EQ_API eq_status eq_bench(eq_ctx *ctx, const eq_model *model, const eq_bench_options *options,
                          void (*row)(void *user, const eq_bench_row *row), void *user);

#ifdef __cplusplus
}
#endif
#endif
