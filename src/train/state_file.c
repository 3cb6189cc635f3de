#include "train/state_file.h"

#include "io/safetensors.h"

#include <stdio.h>

/* The tensors: "w.<i>" for each parameter; with a state "m.<i>" and "v.<i>" too, and "state". */
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

/* Vectors of a parameter: values, and with a state its moments. */
static int vectors(const eq_fit_state *state)
{
    return state ? 3 : 1;
}

static eq_status list_tensors(eq_ctx *ctx, listing *l, const eq_parameters *p,
                              const eq_fit_state *state)
{
    int64_t most = 3 * p->count + 1;
    *l = (listing){eq_alloc(ctx, most, sizeof *l->entries), eq_alloc(ctx, most, NAME), 0};
    if (!l->entries || !l->names) return EQ_ENOMEM;
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; k < vectors(state); k++)
            add_entry(l, "wmv"[k], i, EQ_F32, p -> list[i].n);
    if (state) add_entry(l, 0, 0, EQ_I64, STATE_FIELDS);
    return EQ_OK;
}

static float *vector_of(const eq_parameter *p, int kind)
{
    return kind == 0 ? p->w : kind == 1 ? p->m : p->v;
}

static void pack_state(int64_t fields[STATE_FIELDS], const eq_fit_state *s)
{
    const double reals[3] = {s->sum, s->best, s->rate};
    fields[0] = s->step;
    fields[1] = s->worse;
    memcpy(&fields[2], reals, sizeof reals);
}

static eq_fit_state unpack_state(const int64_t fields[STATE_FIELDS])
{
    double reals[3];
    memcpy(reals, &fields[2], sizeof reals);
    return (eq_fit_state){.step = fields[0],
                          .worse = (int)fields[1],
                          .sum = reals[0],
                          .best = reals[1],
                          .rate = reals[2]};
}

eq_status eq_state_write(eq_ctx *ctx, const char *path, const eq_parameters *p,
                         const eq_fit_state *state)
{
    listing l;
    eq_safetensors_writer w = {0};
    int64_t fields[STATE_FIELDS];
    eq_status st = list_tensors(ctx, &l, p, state);
    if (st == EQ_OK) st = eq_safetensors_begin(ctx, &w, path, l.entries, l.count);
    if (st != EQ_OK) goto done;
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; k < vectors(state); k++)
            eq_safetensors_write(&w, vector_of(&p->list[i], k),
                                 (size_t)p->list[i].n * sizeof(float));
    if (state) {
        pack_state(fields, state);
        eq_safetensors_write(&w, fields, sizeof fields);
    }
    st = eq_safetensors_commit(&w);
done:
    listing_free(&l);
    return st;
}

eq_status eq_state_read(eq_ctx *ctx, const char *path, const eq_parameters *p, eq_fit_state *state)
{
    listing l;
    eq_safetensors *file = NULL;
    int64_t fields[STATE_FIELDS], n = 0;
    eq_status st = list_tensors(ctx, &l, p, state);
    if (st == EQ_OK) st = eq_safetensors_open(ctx, &file, path);
    for (int64_t i = 0; i < p->count; i++)
        for (int k = 0; st == EQ_OK && k < vectors(state); k++)
            st = eq_safetensors_copy(ctx, file, &l.entries[n++], vector_of(&p->list[i], k));
    if (st == EQ_OK && state) {
        st = eq_safetensors_copy(ctx, file, &l.entries[n], fields);
        if (st == EQ_OK) *state = unpack_state(fields);
    }
    eq_safetensors_close(file);
    listing_free(&l);
    return st;
}
