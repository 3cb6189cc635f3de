#include "train/whole.h"

static int64_t linears(const eq_whole_shape *s)
{
    return s->base->config.L * EQ_UNITS;
}

static void add_parameter(eq_whole *w, eq_parameter p)
{
    p.m = eq_arena_take(&w->arena, p.n, sizeof(float));
    p.v = eq_arena_take(&w->arena, p.n, sizeof(float));
    if (w->parameters.list) w->parameters.list[w->parameters.count] = p;
    w->parameters.count++;
}

/* Parameters of one linear, whose form takes its buffers. */
static void layout_linear(eq_whole *w, int64_t i)
{
    const eq_whole_shape *s = &w->shape;
    eq_unit unit = (eq_unit)(i % EQ_UNITS);
    const eq_config *c = &s->base->config;
    eq_quant_shape quant =
        eq_scheme_shape(&s->schemes[i / EQ_UNITS].units[unit], eq_unit_columns(c, unit));
    int64_t N = eq_unit_rows(c, unit), groups = N * (quant.K / quant.g);
    if (s->train == EQ_TRAIN_ALL) {
        const eq_fake_kind kind = {
            .type = s->type, .keep_gradients = true, .exact_scales = s->exact_scales};
        quant.edges_clipped = s->edges_clipped;
        eq_fake f = eq_fake_layout(&w->arena, N, &quant, &kind);
        f.effective = w->effective[unit];
        add_parameter(w, (eq_parameter){.w = f.w, .g = f.dw, .n = N * quant.K});
        add_parameter(w,
                      (eq_parameter){.w = f.s, .g = f.ds, .n = groups, .group = EQ_GROUP_SCALES});
        if (w->fakes) w->fakes[i] = f;
        return;
    }
    eq_scales f = eq_scales_layout(&w->arena, N, &quant);
    f.effective = w->effective[unit];
    f.type = s->type;
    add_parameter(w, (eq_parameter){.w = f.s, .g = f.ds, .n = groups, .group = EQ_GROUP_SCALES});
    if (w->scales) w->scales[i] = f;
}

static void layout_passes(eq_whole *w, int threads)
{
    const eq_whole_shape *s = &w->shape;
    const eq_config *c = &s->base->config;
    const eq_block_shape block = {1, s->T, s->type, true};
    const eq_logits_shape loss = {s->T, c->C, c->V, s->type, s->weights, s->top};
    w->acts = eq_activations_layout(&w->arena, c, &block, threads);
    w->kept = eq_arena_take(&w->arena, s->kept, sizeof *w->kept);
    for (int64_t i = 0; i < s->kept; i++) {
        eq_activations a = eq_activations_beside(&w->arena, c, &w->acts);
        if (w->kept) w->kept[i] = a;
    }
    w->rope = eq_rope_layout(&w->arena, c, s->T);
    w->inputs = eq_arena_take(&w->arena, (c->L + 1) * s->T * c->C, sizeof(float));
    w->teacher_hidden = s->teacher ? w->acts.y : NULL; /* every pass has a place of its own for y */
    w->loss = eq_logits_loss_layout(&w->arena, &loss);
}

/* Elements of the norms of all blocks. */
static int64_t norms_before_final(const eq_config *c)
{
    return c->L * eq_norm_elems(c);
}

static void layout(eq_whole *w, int threads)
{
    const eq_whole_shape *s = &w->shape;
    const eq_config *c = &s->base->config;
    eq_arena *a = &w->arena;
    bool all = s->train == EQ_TRAIN_ALL;
    int64_t n = linears(s), norms = norms_before_final(c) + c->C;
    w->parameters = (eq_parameters){.list = eq_arena_take(a, 2 * n + 1, sizeof(eq_parameter))};
    w->blocks = eq_arena_take(a, c->L, sizeof *w->blocks);
    if (all)
        w->fakes = eq_arena_take(a, n, sizeof *w->fakes);
    else
        w->scales = eq_arena_take(a, n, sizeof *w->scales);
    for (int u = 0; u < EQ_UNITS; u++)
        w->effective[u] =
            eq_arena_take(a, eq_unit_rows(c, (eq_unit)u) * eq_unit_columns(c, (eq_unit)u),
                          eq_elem_bytes(s->type));
    for (int64_t i = 0; i < n; i++)
        layout_linear(w, i);
    w->norms = eq_arena_take(a, norms, sizeof(float));
    w->dnorms = eq_arena_take(a, norms, sizeof(float));
    if (s->train != EQ_TRAIN_SCALES)
        add_parameter(
            w, (eq_parameter){.w = w->norms, .g = w->dnorms, .n = norms, .group = EQ_GROUP_NORMS});
    layout_passes(w, threads);
}

size_t eq_whole_bytes(const eq_whole_shape *shape, int threads)
{
    eq_whole w = {.shape = *shape, .arena = eq_arena_measure()};
    layout(&w, threads);
    return w.arena.used;
}

static void connect_block(eq_ctx *ctx, eq_whole *w, int64_t i)
{
    const eq_config *c = &w->shape.base->config;
    bool trained = w->shape.train != EQ_TRAIN_SCALES;
    int64_t first = i * eq_norm_elems(c);
    eq_block *b = &w->blocks[i];
    *b = (eq_block){.config = c};
    eq_block_set_norms(b, w->norms + first, trained ? w->dnorms + first : NULL);
    memcpy(b->biases, w->shape.base->blocks[i].block.biases, sizeof b->biases);
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t k = i * EQ_UNITS + u;
        b->units[u] = w->fakes ? eq_linear_fake(ctx->kernels, &w->fakes[k])
                               : eq_linear_scales(ctx->kernels, &w->scales[k]);
    }
}

eq_status eq_whole_init(eq_ctx *ctx, eq_whole *w, const eq_whole_shape *shape)
{
    *w = (eq_whole){.shape = *shape};
    const eq_config *c = &shape->base->config;
    eq_status st = eq_arena_reserve(ctx, &w->arena, eq_whole_bytes(shape, ctx->threads));
    if (st != EQ_OK) return st;
    layout(w, ctx->threads);
    eq_rope_fill(&w->rope, c, 0, shape->T);
    for (int64_t i = 0; i < c->L; i++)
        connect_block(ctx, w, i);
    w->final_norm = w->norms + norms_before_final(c);
    memcpy(w->final_norm, shape->base->final_norm, (size_t)c->C * sizeof(float));
    w->head = shape->base->head;
    if (shape->teacher) w->teacher_head = shape->teacher->head;
    return EQ_OK;
}

void eq_whole_deinit(eq_whole *w)
{
    eq_arena_release(&w->arena);
    *w = (eq_whole){0};
}

/* Zero points go with scales above 0. Smaller ones than are trained stand for weights near 0. */
static eq_status check_scales(eq_ctx *ctx, const eq_whole *w, int64_t block, const eq_fake *f)
{
    const int64_t groups = f->N * (f->shape.K / f->shape.g);
    if (f->shape.symmetric || f->shape.super) return EQ_OK;
    for (int64_t i = 0; i < groups; i++)
        if (!(f->s[i] >= 0))
            return eq_fail(ctx, EQ_EINVAL,
                           "%s: block %lld: a scale beside zero points is %g, where all weights "
                           "are not trained; take --tune norms",
                           eq_checkpoint_path(w->shape.base->checkpoint), (long long)block,
                           (double)f->s[i]);
    return EQ_OK;
}

/* Masters on the grid that the stored weights lie on. */
static eq_status load_fake(eq_ctx *ctx, eq_fake *f, const eq_linear *source)
{
    const eq_stored *stored = source->state;
    int64_t K = f->shape.K, groups = K / f->shape.g;
#pragma omp parallel for schedule(dynamic, 16) num_threads(ctx->threads)
    for (int64_t row = 0; row < f->N; row++)
        source->form->rows(source, f->w + row * K, EQ_F32, row, 1);
    for (int p = 0; p < stored->count; p++) {
        const eq_stored_part *part = &stored->parts[p];
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
        for (int64_t r = 0; r < part->rows; r++) {
            int64_t at = (part->row0 + r) * groups;
            eq_stored_grid(part, r, K, NULL, f->s + at, f->z + at);
        }
    }
    return eq_ctx_status(ctx);
}

eq_status eq_whole_load(eq_ctx *ctx, eq_whole *w, int64_t i, const eq_block *source)
{
    eq_block_copy_norms(w->blocks[i].norm1, source);
    eq_status st = EQ_OK;
    for (int u = 0; st == EQ_OK && u < EQ_UNITS; u++) {
        int64_t k = i * EQ_UNITS + u;
        if (w->fakes)
            st = load_fake(ctx, &w->fakes[k], &source->units[u]);
        else
            eq_scales_load(ctx, &w->scales[k], &source->units[u]);
        if (st == EQ_OK && w->fakes) st = check_scales(ctx, w, i, &w->fakes[k]);
    }
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

/* Form the effective weights of block i. */
static void refresh(eq_ctx *ctx, const eq_whole *w, int64_t i)
{
    for (int u = 0; u < EQ_UNITS; u++) {
        int64_t k = i * EQ_UNITS + u;
        if (w->fakes)
            eq_fake_refresh(ctx, &w->fakes[k]);
        else
            eq_scales_refresh(ctx, &w->scales[k]);
    }
}

void eq_whole_keep(eq_whole_shape *s, int64_t bytes, int64_t beside, int threads)
{
    s->kept = 1;
    int64_t one = (int64_t)eq_whole_bytes(s, threads), L = s->base->config.L;
    s->kept = 0;
    int64_t none = (int64_t)eq_whole_bytes(s, threads);
    int64_t limit = bytes ? bytes : eq_available_memory(), left = limit - beside - none;
    if (!bytes && (!limit || left > none * 2 / 5)) left = none * 2 / 5;
    if (left > 0) s->kept = left / (one - none) < L ? left / (one - none) : L;
}

/* Where block i works: at a place of its own if it keeps its activations, else at that of all. */
static eq_activations *acts_of(eq_whole *w, int64_t i)
{
    int64_t first = w->shape.base->config.L - w->shape.kept;
    return i < first ? &w->acts : &w->kept[i - first];
}

static float *input_of(const eq_whole *w, int64_t i)
{
    return w->inputs + i * w->shape.T * w->shape.base->config.C;
}

/* The teacher's last hidden states, through buffers that the model's forward pass uses later. */
static eq_status teacher_forward(eq_ctx *ctx, eq_whole *w, const int32_t *ids)
{
    const eq_decoder *d = w->shape.teacher;
    int64_t L = d->config.L, T = w->shape.T;
    eq_status st = eq_embed(ctx, &d->embedding, input_of(w, 0), ids, T);
    for (int64_t i = 0; st == EQ_OK && i < L; i++) {
        w->acts.x = input_of(w, i % 2);
        w->acts.y = i == L - 1 ? w->teacher_hidden : input_of(w, (i + 1) % 2);
        eq_block_forward(ctx, &d->blocks[i].block, &w->rope, &w->acts);
        st = eq_check_interrupt(ctx);
    }
    return st;
}

static eq_status model_forward(eq_ctx *ctx, eq_whole *w, const int32_t *ids)
{
    int64_t L = w->shape.base->config.L;
    eq_status st = eq_embed(ctx, &w->shape.base->embedding, input_of(w, 0), ids, w->shape.T);
    for (int64_t i = 0; st == EQ_OK && i < L; i++) {
        eq_activations *a = acts_of(w, i);
        refresh(ctx, w, i);
        a->x = input_of(w, i);
        a->y = input_of(w, i + 1);
        eq_block_forward(ctx, &w->blocks[i], &w->rope, a);
        st = eq_check_interrupt(ctx);
    }
    return st;
}

/* acts.dh holds the gradient of the last hidden states. */
static eq_status model_backward(eq_ctx *ctx, eq_whole *w)
{
    eq_status st = EQ_OK;
    for (int64_t i = w->shape.base->config.L - 1; st == EQ_OK && i >= 0; i--) {
        eq_activations *a = acts_of(w, i);
        refresh(ctx, w, i);
        a->x = input_of(w, i);
        if (a == &w->acts) eq_block_recompute(ctx, &w->blocks[i], &w->rope, a);
        eq_block_backward(ctx, &w->blocks[i], &w->rope, a);
        st = eq_check_interrupt(ctx);
    }
    return st;
}

static eq_logits_end end_of(const eq_decoder *d, const float *norm, eq_linear *head)
{
    return (eq_logits_end){norm, head, d->config.eps};
}

eq_status eq_whole_window_pass(eq_ctx *ctx, eq_whole *w, const eq_whole_window *window,
                               bool backward, double *loss)
{
    const eq_decoder *base = w->shape.base, *teacher = w->shape.teacher;
    const eq_config *c = &base->config;
    bool alongside = teacher && !w->shape.top;
    eq_status st = alongside ? teacher_forward(ctx, w, window->ids) : EQ_OK;
    if (st == EQ_OK) st = model_forward(ctx, w, window->ids);
    if (st != EQ_OK) return st;
    eq_logits_window logits = {.ids = window->ids,
                               .counts = window->counts,
                               .x = input_of(w, c->L),
                               .teacher = w->teacher_hidden,
                               .top = window->top,
                               .end = end_of(base, w->final_norm, &w->head)};
    if (alongside) logits.teacher_end = end_of(teacher, teacher->final_norm, &w->teacher_head);
    bool norms = w->shape.train != EQ_TRAIN_SCALES;
    *loss =
        eq_logits_loss_window(ctx, &w->loss, &logits, window->share, backward ? w->acts.dh : NULL,
                              norms ? w->dnorms + norms_before_final(c) : NULL);
    if (alongside && !isfinite(*loss) &&
        !isfinite(ctx->kernels->sum_squares(w->teacher_hidden, w->shape.T * c->C, w->shape.type)))
        return eq_fail(ctx, EQ_ENUMERIC, "%s: the hidden states are not finite",
                       eq_checkpoint_path(teacher->checkpoint));
    if (backward) st = model_backward(ctx, w);
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

eq_status eq_whole_find_top(eq_ctx *ctx, eq_whole *w, const int32_t *ids, const eq_logits_top *out)
{
    const eq_decoder *teacher = w->shape.teacher;
    const eq_logits_end end = end_of(teacher, teacher->final_norm, &w->teacher_head);
    eq_status st = teacher_forward(ctx, w, ids);
    if (st == EQ_OK) eq_logits_find_top(ctx, &w->loss, &end, w->teacher_hidden, out);
    return st == EQ_OK ? eq_ctx_status(ctx) : st;
}

double eq_whole_flops(const eq_whole_shape *s)
{
    const eq_config *c = &s->base->config;
    double head = 2.0 * (double)c->V * (double)c->C * (double)s->T;
    double blocks = (double)c->L * eq_block_flops(c, 1, s->T, true) + 2.0 * head;
    if (s->teacher && !s->top) blocks += (double)c->L * eq_block_flops(c, 1, s->T, false) + head;
    return blocks;
}
