/* The loss of a whole decoder on its logits, and the gradient of its last hidden states. Logits are
 * formed a slice of tokens at a time.
 *
 *   L = sum over counted positions t of share (w_ce (-log p(next)) + w_kl tau^2 KL(q || p)),
 *   p = softmax(x / tau) of the model, q = softmax(r / tau) of the teacher (tau = 1 for the first)
 *
 * Of a teacher that was run before, the `top` most likely tokens of each position are known; all
 * others count as one: KL = sum_top q log(q / p) + q_rest log(q_rest / p_rest). */
#ifndef EQ_TRAIN_LOGITS_LOSS_H
#define EQ_TRAIN_LOGITS_LOSS_H

#include "model/decoder.h"

typedef struct eq_logits_weights {
    float kl, ce;      /* w_kl and w_ce */
    float temperature; /* tau, above 0 */
} eq_logits_weights;

/* The end of a decoder: final norm and head. */
typedef struct eq_logits_end {
    const float *norm; /* [C] */
    eq_linear *head;   /* [V, C] */
    float eps;
} eq_logits_end;

/* Buffers for windows of T tokens, in an arena. */
typedef struct eq_logits_loss {
    int64_t T, C, V, slice, top;
    eq_dtype type;
    eq_logits_weights weights;
    float *logits, *teacher; /* [slice, V]; teacher NULL without one that runs alongside */
    void *dlogits;           /* [slice, V] type */
    void *n;                 /* [slice, C] type: normed hidden states */
    float *dn;               /* [slice, C] */
    float *rstd;             /* [slice] */
    float *partial;          /* of eq_norm_backward */
    double *rows;            /* [slice]: losses */
    void *scratch;           /* of the head's products */
} eq_logits_loss;

typedef struct eq_logits_shape {
    int64_t T, C, V;
    eq_dtype type;
    eq_logits_weights weights; /* kl 0: no teacher */
    int64_t top;               /* 0: the teacher runs alongside */
} eq_logits_shape;

/* What is known of a teacher at the positions 0 .. T-2 of a window. */
typedef struct eq_logits_top {
    int32_t *ids; /* [T-1, top] */
    float *q;     /* [T-1, top] probabilities at the temperature */
} eq_logits_top;

eq_logits_loss eq_logits_loss_layout(eq_arena *arena, const eq_logits_shape *shape);

/* One window. */
typedef struct eq_logits_window {
    const int32_t *ids;    /* [T] */
    const uint8_t *counts; /* [T], 1 where the token counts as a target; NULL: all */
    const float *x;        /* [T, C] last hidden states of the model */
    const float *teacher;  /* [T, C] of the teacher; NULL when w_kl is 0 or it was run before */
    eq_logits_top top;     /* borrowed; of a teacher that was run before */
    eq_logits_end end, teacher_end;
} eq_logits_window;

/* The most likely tokens of a teacher, most likely first, from its last hidden states x [T, C]; out
 * has room for them. */
void eq_logits_find_top(eq_ctx *ctx, eq_logits_loss *loss, const eq_logits_end *end, const float *x,
                        const eq_logits_top *out);
/* Number of counted targets among ids[1 .. T-1]. */
int64_t eq_logits_positions(const uint8_t *counts, int64_t T);
/* Sum over the counted positions, each with weight `share`. With dx (out [T, C]) also dL/dx, and
 * dnorm (may be NULL) += dL/d(final norm). A row that does not count is passed over. */
double eq_logits_loss_window(eq_ctx *ctx, eq_logits_loss *loss, const eq_logits_window *window,
                             float share, float *dx, float *dnorm);

#endif
