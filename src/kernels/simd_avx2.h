/* The vector vocabulary on AVX2 with FMA: 256 bits, 16 registers. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with -mavx2 -mfma"
#endif
#include <immintrin.h>

#define V_REGISTERS 16
/* 6 x 2 accumulators, 2 vectors of b, 1 of a: 15 of the 16 registers. */
#define TILE_ROWS 6
#define TILE_VECTORS 2
/* Rows of a thin product by 4 of the weight: 12 accumulators, 3 vectors of x, 1 of the weight. */
#define THIN_ROWS 3
/* Makes GCC load v once, and not again from memory for each use. */
#define v_keep(v) __asm__("" : "+x"(v))

#if REAL_BITS == 32
#define V_WIDTH 8
#define V __m256
#define V_MASK(n)                                                                                  \
    _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define v_set1(x) _mm256_set1_ps(x)
#define v_load(p) _mm256_loadu_ps(p)
#define v_store(p, v) _mm256_storeu_ps(p, v)
#define v_load_n(p, n) _mm256_maskload_ps(p, V_MASK(n))
#define v_store_n(p, v, n) _mm256_maskstore_ps(p, V_MASK(n), v)
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_sqrt(v) _mm256_sqrt_ps(v)
#define v_min(a, b) _mm256_min_ps(a, b)
#define v_max(a, b) _mm256_max_ps(a, b)
#define v_where_positive(a, b) _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ), b)
#define v_where_nonzero(a, b) _mm256_and_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ), b)
#define v_shift_bits(v, k) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), k))
static inline float FN(v_sum)(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* s (8) = the sums of eight vectors */
INLINE void FN(v_sum8)(const __m256 *v, float *s) {
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    _mm256_storeu_ps(s, _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20),
                                      _mm256_permute2f128_ps(low, high, 0x31)));
}
#else
#define V_WIDTH 4
#define V __m256d
#define V_MASK(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
#define v_set1(x) _mm256_set1_pd(x)
#define v_load(p) _mm256_loadu_pd(p)
#define v_store(p, v) _mm256_storeu_pd(p, v)
#define v_load_n(p, n) _mm256_maskload_pd(p, V_MASK(n))
#define v_store_n(p, v, n) _mm256_maskstore_pd(p, V_MASK(n), v)
#define v_fma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define v_sqrt(v) _mm256_sqrt_pd(v)
#define v_min(a, b) _mm256_min_pd(a, b)
#define v_max(a, b) _mm256_max_pd(a, b)
#define v_where_positive(a, b) _mm256_and_pd(_mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_GT_OQ), b)
#define v_where_nonzero(a, b) _mm256_and_pd(_mm256_cmp_pd(a, _mm256_setzero_pd(), _CMP_NEQ_UQ), b)
#define v_shift_bits(v, k) _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(v), k))
static inline double FN(v_sum)(__m256d v) {
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
INLINE void FN(v_sum8)(const __m256d *v, double *s) {
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        const __m256d low = _mm256_hadd_pd(v[i], v[i + 1]);
        const __m256d high = _mm256_hadd_pd(v[i + 2], v[i + 3]);
        _mm256_storeu_pd(s + i, _mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x20),
                                              _mm256_permute2f128_pd(low, high, 0x31)));
    }
}
#endif
#define v_sum FN(v_sum)
#define v_sum8 FN(v_sum8)
