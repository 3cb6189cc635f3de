/* Single-threaded products by oneDNN. Internal to gemm.c; gemm_onednn.c is the only file that sees
 * oneDNN. */
#ifndef EQ_KERNELS_GEMM_ONEDNN_H
#define EQ_KERNELS_GEMM_ONEDNN_H

#include "kernels/gemm.h"

typedef struct eq_onednn eq_onednn;           /* the engine and one stream per thread */
typedef struct eq_onednn_tile eq_onednn_tile; /* one primitive with its memory objects per thread */

eq_status eq_onednn_new(eq_ctx *ctx, eq_onednn **engine);
void eq_onednn_free(eq_onednn *engine);
eq_status eq_onednn_tile_new(eq_ctx *ctx, eq_onednn *engine, const eq_gemm *shape,
                             eq_onednn_tile **tile);
void eq_onednn_tile_free(eq_onednn_tile *tile);
/* Run on `thread` of the context's threads; failures become the context's error. */
void eq_onednn_tile_run(eq_ctx *ctx, eq_onednn_tile *tile, int thread, void *C, const void *A,
                        const void *B);

#endif
