#include "kernels/dot_avx512.h"

#include "kernels/panels_body.h"
#include "kernels/quant_body.h"
#include "kernels/rows_body.h"
#include "kernels/tables.h"

const eq_kernels eq_kernels_avx512 = {
    .name = "avx512",
    .f32_to_bf16 = f32_to_bf16,
    .bf16_to_f32 = bf16_to_f32,
    .unpack = unpack,
    .add = add,
    .rmsnorm_forward = rmsnorm_forward,
    .rmsnorm_backward = rmsnorm_backward,
    .rope = rope,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .softmax_causal = softmax_causal,
    .softmax_causal_backward = softmax_causal_backward,
    .attend = attend,
    .dot_rows = dot_rows,
    .fakequant_forward = fakequant_forward,
    .fakequant_backward = fakequant_backward,
    .quantize_codes = quantize_codes,
    .adamw = adamw,
    .start_search = start_search,
    .dequantize = dequantize,
    .scale_gradient = scale_gradient,
    .panel_inputs = panel_inputs,
    .panel_product = panel_product,
    .panel_rows = panel_rows,
    .softmax_error = softmax_error,
    .error_row = error_row,
    .sum_squares = sum_squares,
    .logsumexp = logsumexp,
    .kl_row = kl_row,
};
