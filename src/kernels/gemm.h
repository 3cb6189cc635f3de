/* Matrix products C = op(A) op(B), or C += op(A) op(B).
 *
 * Three engines: our own AMX one (bf16), oneDNN (f32, and bf16 on AVX-512 BF16), and plain loops
 * for builds without oneDNN and for the isa "ref". Outputs are cut into tiles that do not depend on
 * the number of threads, and no sum is ever split between threads, so results are the same bytes
 * for any number of threads. */
#ifndef EQ_KERNELS_GEMM_H
#define EQ_KERNELS_GEMM_H

#include "base/context.h"
#include "tensor/dtype.h"

/* op(A) is [M, K]: A itself, or with trans_a the transpose of A stored [K, M]. op(B) is [K, N]: B,
 * or with trans_b the transpose of B stored [N, K]. Rows of the stored matrices are lda, ldb, ldc
 * elements apart. */
typedef struct eq_gemm {
    int64_t M, N, K;
    int64_t lda, ldb, ldc;
    bool trans_a, trans_b;
    bool accumulate; /* C += instead of C =; only with out EQ_F32 */
    eq_dtype in;     /* of A and B: EQ_F32 or EQ_BF16 */
    eq_dtype out;    /* of C: EQ_F32, or EQ_BF16 when in is EQ_BF16 */
} eq_gemm;

/* Y[M, N] = X[M, K] W[N, K]^T, all dense: the forward product of a linear. */
eq_gemm eq_gemm_forward(int64_t M, int64_t N, int64_t K, eq_dtype in, eq_dtype out);
/* dX[M, K] = dY[M, N] W[N, K], all dense. */
eq_gemm eq_gemm_input_gradient(int64_t M, int64_t N, int64_t K, eq_dtype in, eq_dtype out);
/* dW[N, K] = dY[M, N]^T X[M, K], f32; dY has rows of ldy elements. */
eq_gemm eq_gemm_weight_gradient(int64_t M, int64_t N, int64_t K, int64_t ldy, eq_dtype in);

/* One product on all threads of the context. Not to be called inside a parallel loop. A failure
 * (out of memory, a refusal by oneDNN) becomes the context's sticky error. */
void eq_gemm_run(eq_ctx *ctx, const eq_gemm *shape, void *C, const void *A, const void *B);

/* For products inside a parallel loop: prepare a plan outside (borrowed from the context, NULL
 * after a failure), then run it on thread `thread` (0 .. threads-1) alone. */
typedef struct eq_gemm_plan eq_gemm_plan;
const eq_gemm_plan *eq_gemm_prepare(eq_ctx *ctx, const eq_gemm *shape);
void eq_gemm_serial(eq_ctx *ctx, const eq_gemm_plan *plan, int thread, void *C, const void *A,
                    const void *B);

/* For products of many A with one B: bytes of B in the form that the products read, 0 when the
 * engine reads B as it is. The form depends on N, K and trans_b, not on M. */
size_t eq_gemm_packed_bytes(const eq_ctx *ctx, const eq_gemm *shape);
/* Bring B into that form, on all threads. packed out, eq_gemm_packed_bytes, which are not 0. */
void eq_gemm_pack(eq_ctx *ctx, const eq_gemm *shape, void *packed, const void *B);
/* eq_gemm_run with a packed B: the same bytes. */
void eq_gemm_run_packed(eq_ctx *ctx, const eq_gemm *shape, void *C, const void *A,
                        const void *packed);

/* Whether products of bf16 run on hardware made for them. */
bool eq_gemm_has_bf16(const eq_ctx *ctx);
/* "AMX", "oneDNN" or "plain", for reports. */
const char *eq_gemm_engine(const eq_ctx *ctx, eq_dtype in);
/* Free the context's plans and scratch. */
void eq_gemm_free(eq_ctx *ctx);

#endif
