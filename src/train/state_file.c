#include "train/state_file.h"

#include "io/safetensors.h"

#include <stdio.h>

/* The tensors: "w.<i>", and "m.<i>" and "v.<i>" with moments, for each parameter, then "state". */
enum { NAME = 24, STATE_FIELDS = 5 };

typedef struct listing {
    eq_tensor_entry *entries; /* owned */
    char (*names)[NAME];      /* owned */
    int64_t count;
} listing;

static void listing_free(listing *l)
{
    eq_free(l->entries);
    eq_free(l->names);
}

static void add_entry(listing *l, char letter, int64_t i, eq_dtype type, int64_t n)
{
    if (letter)
        snprintf(l->names[l->count], NAME, "%c.%lld", letter, (long long)i);
    else
        snprintf(l->names[l->count], NAME, "state");
    l->entries[l->count] = (eq_tensor_entry){l->names[l->count], type, 1, {n}};
    l->count++;
}

static eq_status list_tensors(eq_ctx *ctx, listing *l, const eq_parameters *p, bool moments)
{
    int64_t most = 3 * p->count + 1;
    *l = (listing){eq_alloc(ctx, most, sizeof *l->entries), eq_alloc(ctx, most, NAME), 0};
    if (!l->entries || !l->names) return EQ_ENOMEM;
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; k < (moments ? 3 : 1); k++)
            add_entry(l, "wmv"[k], i, EQ_F32, p -> list[i].n);
    add_entry(l, 0, 0, EQ_I64, STATE_FIELDS);
    return EQ_OK;
}

static float *vector_of(const eq_parameter *p, int kind)
{
    return kind == 0 ? p->w : kind == 1 ? p->m : p->v;
}

eq_status eq_state_write(eq_ctx *ctx, const char *path, const eq_parameters *p,
                         const eq_fit_state *state, bool moments)
{
    listing l;
    eq_safetensors_writer w = {0};
    int64_t fields[STATE_FIELDS] = {state->step, 0, 0, state->worse, 0};
    memcpy(&fields[1], &state->sum, sizeof(double));
    memcpy(&fields[2], &state->best, sizeof(double));
    memcpy(&fields[4], &state->rate, sizeof(double));
    eq_status st = list_tensors(ctx, &l, p, moments);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, l.entries, l.count);
    if (st != EQ_OK) goto done;
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; k < (moments ? 3 : 1); k++)
            eq_safetensors_write(&w, vector_of(&p->list[i], k),
                                 (size_t)p->list[i].n * sizeof(float));
    eq_safetensors_write(&w, fields, sizeof fields);
    st = eq_safetensors_commit(&w);
done:
    listing_free(&l);
    return st;
}

static eq_status read_tensor(eq_ctx *ctx, const eq_safetensors *file, const eq_tensor_entry *e,
                             void *out)
{
    eq_tensor t;
    eq_status st = eq_safetensors_expect(ctx, file, e, &t);
    if (st == EQ_OK) memcpy(out, t.data, eq_tensor_entry_bytes(e));
    return st;
}

eq_status eq_state_read(eq_ctx *ctx, const char *path, const eq_parameters *p, eq_fit_state *state,
                        bool moments)
{
    listing l;
    eq_safetensors *file = NULL;
    int64_t fields[STATE_FIELDS], n = 0;
    eq_status st = list_tensors(ctx, &l, p, moments);
    if (st == EQ_OK) st = eq_safetensors_open(ctx, &file, path);
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; st == EQ_OK && k < (moments ? 3 : 1); k++)
            st = read_tensor(ctx, file, &l.entries[n++], vector_of(&p->list[i], k));
    if (st == EQ_OK) st = read_tensor(ctx, file, &l.entries[n], fields);
    if (st == EQ_OK) {
        *state = (eq_fit_state){.step = fields[0], .worse = (int)fields[3]};
        memcpy(&state->sum, &fields[1], sizeof(double));
        memcpy(&state->best, &fields[2], sizeof(double));
        memcpy(&state->rate, &fields[4], sizeof(double));
    }
    eq_safetensors_close(file);
    listing_free(&l);
    return st;
}
