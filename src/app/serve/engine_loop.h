/* The engine's side of the server: calls go in, their answers come out. All functions are called
 * from the one thread that owns the context and the engine. */
#ifndef EQ_APP_SERVE_ENGINE_LOOP_H
#define EQ_APP_SERVE_ENGINE_LOOP_H

#include "app/serve/calls.h"

typedef struct eq_engine_loop {
    eq_ctx *ctx;
    eq_engine *engine;
    const eq_model *model;
    eq_calls *calls;
    double timeout;  /* seconds that a call may take */
    eq_call *active; /* the engine works on these, a list by `next` */
} eq_engine_loop;

/* Submit new calls, make one step, hand out what came of it. Waits for a call, `patience` seconds
 * at most, when there is nothing to do. Fails as eq_engine_step does. */
eq_status eq_engine_loop_turn(eq_engine_loop *loop, double patience);
/* Cancel calls whose client has gone or whose time is over. To be called every now and then. */
void eq_engine_loop_check(eq_engine_loop *loop);
/* Refuse new calls and end all others with this error. The engine is not used any more. */
void eq_engine_loop_close(eq_engine_loop *loop, const eq_api_error *error);

#endif
