#include "kernels/dot_vnni.h"

#include "kernels/kv_body.h"
#include "kernels/panels_body.h"
#include "kernels/quant_body.h"
#include "kernels/rows_body.h"
#include "kernels/tables.h"

const eq_kernels eq_kernels_vnni = {
    .name = "vnni",
#include "kernels/table_entries.h"
};
