#include "app/output.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *eq_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

eq_status eq_json_print(eq_session *session, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_REAL_PRECISION(10)) : NULL;
    json_decref(object);
    if (!text)
        return eq_session_fail(session, EQ_ENOMEM,
                               "the result does not become JSON: out of "
                               "memory, or a name in it is not UTF-8");
    puts(text);
    free(text);
    return EQ_OK;
}

void eq_format_bytes(char *out, size_t size, int64_t bytes)
{
    double mebibytes = (double)bytes / (1024 * 1024);
    if (mebibytes >= 10240)
        snprintf(out, size, "%.1f GiB", mebibytes / 1024);
    else
        snprintf(out, size, "%.1f MiB", mebibytes);
}
