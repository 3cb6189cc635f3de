/* What a teacher says about the windows of a training, on disk: for each position its most likely
 * tokens and their probabilities. Made once, so that passes after the first need no teacher; in
 * parts of a few windows, each of which appears whole, so that an interruption loses one. */
#ifndef EQ_TRAIN_TEACHER_FILE_H
#define EQ_TRAIN_TEACHER_FILE_H

#include "io/safetensors.h"
#include "train/whole.h"

typedef struct eq_teacher_files {
    char *stem;           /* owned; a part is <stem>-00012.safetensors */
    eq_safetensors *part; /* owned; the one that was read last */
    int64_t number;       /* of that */
} eq_teacher_files;

/* Bytes of the files for n windows. */
int64_t eq_teacher_files_bytes(int64_t n, int64_t T, int64_t top);
/* Run the teacher of `whole` over those of the windows ids [n, T] that have no part yet. `stem` is
 * stolen (NULL is out of memory). */
eq_status eq_teacher_files_make(eq_ctx *ctx, eq_teacher_files *files, char *stem, eq_whole *whole,
                                const int32_t *ids, int64_t n);
/* Window i, checked against the shape of `whole`; valid until the next call. */
eq_status eq_teacher_files_window(eq_ctx *ctx, eq_teacher_files *files, const eq_whole *whole,
                                  int64_t i, eq_logits_top *top);
void eq_teacher_files_close(eq_teacher_files *files);

#endif
