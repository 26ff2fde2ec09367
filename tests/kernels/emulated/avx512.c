/* The AVX-512 kernels for CPUs without it: SIMDe takes the place of the intrinsics. */
#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

/* What SIMDe 0.7 lacks, as plain loops. */
#define EMULATE(vector, type, suffix, width)                                                       \
    static inline vector maskz_loadu_##suffix(unsigned mask, const type *p) {                      \
        type lanes[width] = {0};                                                                   \
        for (int i = 0; i < width; i++)                                                            \
            if (mask >> i & 1) lanes[i] = p[i];                                                    \
        return _mm512_loadu_##suffix(lanes);                                                       \
    }                                                                                              \
    static inline void mask_storeu_##suffix(type *p, unsigned mask, vector v) {                    \
        type lanes[width];                                                                         \
        _mm512_storeu_##suffix(lanes, v);                                                          \
        for (int i = 0; i < width; i++)                                                            \
            if (mask >> i & 1) p[i] = lanes[i];                                                    \
    }                                                                                              \
    static inline type reduce_add_##suffix(vector v) {                                             \
        type lanes[width];                                                                         \
        _mm512_storeu_##suffix(lanes, v);                                                          \
        for (int n = width / 2; n > 0; n /= 2)                                                     \
            for (int i = 0; i < n; i++) lanes[i] += lanes[i + n];                                  \
        return lanes[0];                                                                           \
    }
EMULATE(__m512, float, ps, 16)
EMULATE(__m512d, double, pd, 8)
#define _mm512_maskz_loadu_ps maskz_loadu_ps
#define _mm512_maskz_loadu_pd maskz_loadu_pd
#define _mm512_mask_storeu_ps mask_storeu_ps
#define _mm512_mask_storeu_pd mask_storeu_pd
#define _mm512_reduce_add_ps reduce_add_ps
#define _mm512_reduce_add_pd reduce_add_pd

#define __AVX512F__ 1
#define __AVX512DQ__ 1
#include "isa_avx512.c"
