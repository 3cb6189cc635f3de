#include "base/cpu.h"
#include "kernels/tables.h"

const eq_kernels *eq_kernels_get(const char *name)
{
    eq_cpu cpu;
    eq_cpu_probe(&cpu);
    /* Best first. */
    const struct {
        const eq_kernels *table;
        bool runs;
    } known[] = {
        {&eq_kernels_vnni, cpu.avx512_vnni},
        {&eq_kernels_avx512, cpu.avx512},
        {&eq_kernels_avx2, cpu.avx2},
        {&eq_kernels_ref, true},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!known[i].runs) continue;
        if (!name || !strcmp(name, known[i].table->name)) return known[i].table;
    }
    return NULL;
}
