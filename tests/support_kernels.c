#include "support_kernels.h"

#include "kernels/kernels.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int use(void **state, const char *name)
{
    *state = (void *)(uintptr_t)eq_kernels_get(name);
    if (!*state) print_message("this CPU cannot run the table %s: compared with itself\n", name);
    if (!*state) *state = (void *)(uintptr_t)eq_kernels_get("ref");
    return 0;
}

int use_kernels_ref(void **state)
{
    return use(state, "ref");
}

int use_kernels_avx2(void **state)
{
    return use(state, "avx2");
}

int use_kernels_avx512(void **state)
{
    return use(state, "avx512");
}

int use_kernels_vnni(void **state)
{
    return use(state, "vnni");
}
