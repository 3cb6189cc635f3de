#include "kernels/dot_avx512.h"

#include "kernels/kv_body.h"
#include "kernels/panels_body.h"
#include "kernels/quant_body.h"
#include "kernels/rows_body.h"
#include "kernels/tables.h"

const eq_kernels eq_kernels_avx512 = {
    .name = "avx512",
#include "kernels/table_entries.h"
};
