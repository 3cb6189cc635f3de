#include "app/session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

eq_status eq_session_fail(eq_session *session, eq_status status, const char *format, ...)
{
    va_list args;
    eq_console_clear(&session->console);
    fputs("eqat: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    session->reported = true;
    return status;
}

eq_status eq_session_open(eq_session *session, const eq_common *common, bool with_model)
{
    *session = (eq_session){0};
    eq_console_init(&session->console, common->quiet);
    eq_ctx_options options = {.threads = common->threads,
                              .isa = common->isa,
                              .callbacks = eq_console_callbacks(&session->console)};
    if (!options.isa) options.isa = getenv("EQAT_ISA");
    if (options.isa && !*options.isa) options.isa = NULL;

    eq_status status = eq_ctx_new(&session->ctx, &options);
    if (status == EQ_EINVAL)
        return eq_session_fail(
            session, status,
            "instruction set '%s' is not ref, avx2, avx512 or vnni, or this CPU has "
            "it not",
            options.isa ? options.isa : "");
    if (status != EQ_OK) return eq_session_fail(session, status, "not enough memory to start");
    eq_console_catch_interrupts();
    if (with_model) status = eq_model_open(session->ctx, &session->model, common->model);
    return status;
}

eq_status eq_session_check_chat(eq_session *session, const char *format)
{
    const char *role = "user", *text = "";
    int32_t *ids = NULL, end;
    int64_t count;
    eq_status status =
        eq_chat_ids(session->ctx, session->model, format, &role, &text, 1, &ids, &count, &end);
    eq_free(ids);
    return status;
}

int64_t eq_session_context(const eq_session *session, int64_t asked)
{
    const int64_t usual = 4096, most = eq_model_get_info(session->model)->context;
    return asked ? asked : most < usual ? most : usual;
}

int eq_session_close(eq_session *session, eq_status status)
{
    eq_console_clear(&session->console);
    if (status != EQ_OK && !session->reported) {
        const char *message = session->ctx ? eq_ctx_message(session->ctx) : "";
        fprintf(stderr, "eqat: %s\n", *message ? message : "failed");
    }
    eq_model_close(session->model);
    eq_ctx_free(session->ctx);
    session->model = NULL;
    session->ctx = NULL;
    switch (status) {
    case EQ_OK:
        return EQ_EXIT_OK;
    case EQ_EINVAL:
        return EQ_EXIT_USAGE;
    case EQ_EINTERRUPTED:
        return EQ_EXIT_INTERRUPTED;
    default:
        return EQ_EXIT_FAILED;
    }
}
