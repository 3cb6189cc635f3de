/* bf16 products on AMX tiles. Internal to gemm.c.
 *
 * Why not oneDNN's: version 2.6 asks CPUID leaf 0x1D for the tile palette, which some hypervisors
 * hide although the tiles work; it then skips the tile configuration and dies of an illegal
 * instruction. */
#ifndef EQ_KERNELS_GEMM_AMX_H
#define EQ_KERNELS_GEMM_AMX_H

#include "kernels/gemm.h"

/* Rows of C that one task computes: about an eighth of M. It must not depend on the number of
 * threads. */
int64_t eq_gemm_task_rows(int64_t M);

/* Elements (bf16) of the packed form of B [K, N]. */
int64_t eq_amx_packed_elems(int64_t K, int64_t N);
/* Elements (bf16) of scratch that eq_amx_block needs for this shape. */
int64_t eq_amx_scratch_elems(const eq_gemm *shape);
/* Pack the columns of panel (0 .. ceil(N/32)-1) of op(B). */
void eq_amx_pack_b(uint16_t *packed, const eq_gemm *shape, const uint16_t *B, int64_t panel);
/* Block `block` (0 .. eq_amx_blocks-1) of C; scratch belongs to the calling thread. */
int64_t eq_amx_blocks(const eq_gemm *shape);
void eq_amx_block(const eq_gemm *shape, int64_t block, void *C, const uint16_t *A,
                  const uint16_t *packed, uint16_t *scratch);

#endif
