/* Set-up of tests that compare a table of kernels with the reference: *state is the table. */
#ifndef SUPPORT_KERNELS_H
#define SUPPORT_KERNELS_H

/* The table of that name; where the CPU cannot run it the reference, and a line that says so. */
int use_kernels_ref(void **state);
int use_kernels_avx2(void **state);
int use_kernels_avx512(void **state);
int use_kernels_vnni(void **state);

#endif
