#include "kernels/dot_avx2.h"

#include "kernels/kv_body.h"
#include "kernels/panels_body.h"
#include "kernels/quant_body.h"
#include "kernels/rows_body.h"
#include "kernels/tables.h"

const eq_kernels eq_kernels_avx2 = {
    .name = "avx2",
#include "kernels/table_entries.h"
};
