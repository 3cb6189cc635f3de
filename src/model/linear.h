/* A linear: Y = X W^T, W [N, K]. Its form decides where W comes from and what becomes of its
 * gradient. */
#ifndef EQ_MODEL_LINEAR_H
#define EQ_MODEL_LINEAR_H

#include "base/arena.h"
#include "io/packing.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

typedef struct eq_linear eq_linear;

/* Y[M, N] (=, or += with accumulate and out_type EQ_F32) X[M, K] W^T. x is of type `type`, y of
 * out_type; scratch of eq_linear_scratch bytes. Errors become the context's. */
typedef struct eq_linear_call {
    int64_t M;
    eq_dtype type;     /* of x, and of dy */
    eq_dtype out_type; /* of y, and of dx */
    bool accumulate;
    void *scratch;
} eq_linear_call;

typedef struct eq_linear_form {
    /* The effective weight, rows row0 .. row0+rows-1, to out [rows, K] of type EQ_F32 or EQ_BF16.
     * Thread-safe. */
    void (*rows)(const eq_linear *linear, void *out, eq_dtype type, int64_t row0, int64_t rows);
    /* The whole effective weight [N, K] in that type, if the form keeps one; else NULL. May be
     * NULL. */
    const void *(*whole)(const eq_linear *linear, eq_dtype type);
    /* The same packed by eq_gemm_pack, used where a product would have to pack it. May be NULL. */
    const void *(*packed)(const eq_linear *linear, eq_dtype type);
    /* A product by the form's own means, as eq_linear_forward; false when the weight had better be
     * unpacked. May be NULL. */
    bool (*multiply)(eq_ctx *ctx, const eq_linear *linear, void *y, const void *x,
                     const eq_linear_call *call);
    /* Take the gradient of rows row0 .. row0+rows-1 of the effective weight: dw [rows, K] f32, may
     * be overwritten.
     * Rows are independent of each other: called from several threads. NULL: nothing to train. */
    void (*gradient)(eq_linear *linear, float *dw, int64_t row0, int64_t rows);
    /* What the file will hold: codes q out [N, K], scales s out [N, K/g] (f32 values that fp16
     * holds), zero points z out [N, K/g] (whole numbers); with super-blocks what these hold. NULL
     * for forms that are not trained. */
    void (*freeze)(eq_ctx *ctx, const eq_linear *linear, uint8_t *q, float *s, float *z);
} eq_linear_form;

struct eq_linear {
    const eq_linear_form *form;
    const eq_kernels *kernels; /* borrowed */
    int64_t N, K;
    void *state; /* of the form; owned by whoever made the linear */
};

/* Several tensors of one checkpoint stacked by rows (q, k, v; gate, up), unpacked when used: the
 * form "stored". */
enum { EQ_MAX_PARTS = 3 };
typedef struct eq_stored_part {
    int64_t row0, rows;
    bool packed; /* matrix or tensor below */
    eq_tensor tensor;
    eq_qmatrix matrix;
} eq_stored_part;

typedef struct eq_stored {
    eq_stored_part parts[EQ_MAX_PARTS];
    int count;
} eq_stored;

/* Bits of the first part's codes; 16 when it is not packed. */
int eq_stored_bits(const eq_stored *stored);
/* Codes of row `row` of a part, q out [K] or NULL, with its scales and zero points, s and z out
 * [K/g]: of a packed part, or of a tensor of super-blocks (K columns). */
void eq_stored_grid(const eq_stored_part *part, int64_t row, int64_t K, uint8_t *q, float *s,
                    float *z);
/* A linear of the form "stored" over `stored` (borrowed), all parts [.., K]. */
eq_linear eq_linear_stored(const eq_kernels *kernels, eq_stored *stored, int64_t K);

/* Bytes of scratch that forward and backward need for a linear [N, K]: at least 64 rows of X in
 * f32. */
size_t eq_linear_scratch(int64_t N, int64_t K);

/* Up to so many rows of X, each row of Y is formed by itself and does not depend on M; with more,
 * rows are the same for the same M only. */
enum { EQ_FEW_ROWS = 4 };

/* Y[M, N] (=, or += with accumulate and out_type EQ_F32) X[M, K] W^T. x is of type `type`, y of
 * out_type; scratch of eq_linear_scratch bytes. Errors become the context's. */
void eq_linear_forward(eq_ctx *ctx, const eq_linear *linear, void *y, const void *x,
                       const eq_linear_call *call);
/* dx[M, K] = dy[M, N] W (skipped when dx is NULL), then the form's gradient from dW = dy^T x,
 * formed a few rows at a time (skipped when x is NULL or the form has none). A form that keeps no
 * whole weight and does not fit one tile needs out_type EQ_F32. */
void eq_linear_backward(eq_ctx *ctx, eq_linear *linear, void *dx, const void *dy, const void *x,
                        const eq_linear_call *call);

#endif
