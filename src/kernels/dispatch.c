/* The choice of an instruction set: the CPU is probed once, the active table can be replaced by a
 * lesser one. Besides the pool in threads.c this table is the library's only mutable state. */
#include <stdatomic.h>
#include <string.h>

#include "fastrnn_kernels.h"

extern const fr_kernels *const fr_kernels_scalar[2];
#ifdef FASTRNN_HAVE_AVX2
extern const fr_kernels *const fr_kernels_avx2[2];
#endif
#ifdef FASTRNN_HAVE_AVX512
extern const fr_kernels *const fr_kernels_avx512[2];
#endif
#ifdef FASTRNN_HAVE_NEON
extern const fr_kernels *const fr_kernels_neon[2];
#endif

enum { MAX_SETS = 4 };
static const fr_kernels *const *sets[MAX_SETS];
static const char *names[MAX_SETS + 1];
static int n_sets;
static const fr_kernels *const *_Atomic active = fr_kernels_scalar;

static void add(const fr_kernels *const *set) {
    sets[n_sets] = set;
    names[n_sets++] = set[0]->isa;
    active = set;
}

void fr_initialise(void) {
    if (n_sets > 0) return;
    add(fr_kernels_scalar);
#ifdef FASTRNN_HAVE_NEON
    add(fr_kernels_neon); /* part of every AArch64 */
#endif
#if defined(FASTRNN_HAVE_AVX2) || defined(FASTRNN_HAVE_AVX512)
    __builtin_cpu_init();
#endif
#ifdef FASTRNN_HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(fr_kernels_avx2);
#endif
#ifdef FASTRNN_HAVE_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        add(fr_kernels_avx512);
#endif
}

const char *const *fr_available_isas(void) { return names; }

int fr_use_isa(const char *isa) {
    for (int i = 0; i < n_sets; i++)
        if (strcmp(isa, names[i]) == 0) {
            active = sets[i];
            return 0;
        }
    return -1;
}

const fr_kernels *fr_active(fr_index item_size) {
    const fr_kernels *const *set = atomic_load_explicit(&active, memory_order_relaxed);
    if (item_size == 4) return set[0];
    if (item_size == 8) return set[1];
    return NULL;
}
