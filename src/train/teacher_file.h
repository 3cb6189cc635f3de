/* What a teacher says about the windows of a training, on disk: for each position its most likely
 * tokens and their probabilities. Made once, so that passes after the first need no teacher. */
#ifndef EQ_TRAIN_TEACHER_FILE_H
#define EQ_TRAIN_TEACHER_FILE_H

#include "io/safetensors.h"
#include "train/whole.h"

/* Bytes of the file for n windows. */
int64_t eq_teacher_file_bytes(int64_t n, int64_t T, int64_t top);
/* Run the teacher of `whole` over windows ids [n, T] into a safetensors file that appears whole. */
eq_status eq_teacher_file_make(eq_ctx *ctx, const char *path, eq_whole *whole, const int32_t *ids,
                               int64_t n);
/* Window i of an open file; checked against the shape of `whole`. */
eq_status eq_teacher_file_window(eq_ctx *ctx, const eq_safetensors *file, const eq_whole *whole,
                                 int64_t i, eq_logits_top *top);

#endif
