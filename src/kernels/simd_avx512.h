/* The vector vocabulary on AVX-512 (F, DQ): 512 bits, 32 registers, masks. */
#if !defined(__AVX512F__) || !defined(__AVX512DQ__)
#error "compile this file with -mavx512f -mavx512dq"
#endif
#include <immintrin.h>

/* 12 x 2 accumulators, 2 vectors of b, 1 of a: 27 of the 32 registers. */
#define TILE_ROWS 12
#define TILE_VECTORS 2

#if REAL_BITS == 32
#define V_WIDTH 16
#define V __m512
#define V_MASK(n) ((__mmask16)((1u << (n)) - 1))
#define v_set1(x) _mm512_set1_ps(x)
#define v_load(p) _mm512_loadu_ps(p)
#define v_store(p, v) _mm512_storeu_ps(p, v)
#define v_load_n(p, n) _mm512_maskz_loadu_ps(V_MASK(n), p)
#define v_store_n(p, v, n) _mm512_mask_storeu_ps(p, V_MASK(n), v)
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_sqrt(v) _mm512_sqrt_ps(v)
#define v_min(a, b) _mm512_min_ps(a, b)
#define v_max(a, b) _mm512_max_ps(a, b)
#define v_where_positive(a, b)                                                                     \
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ), b)
#define v_shift_bits(v, k) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), k))
#define v_sum(v) _mm512_reduce_add_ps(v)
#else
#define V_WIDTH 8
#define V __m512d
#define V_MASK(n) ((__mmask8)((1u << (n)) - 1))
#define v_set1(x) _mm512_set1_pd(x)
#define v_load(p) _mm512_loadu_pd(p)
#define v_store(p, v) _mm512_storeu_pd(p, v)
#define v_load_n(p, n) _mm512_maskz_loadu_pd(V_MASK(n), p)
#define v_store_n(p, v, n) _mm512_mask_storeu_pd(p, V_MASK(n), v)
#define v_fma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define v_sqrt(v) _mm512_sqrt_pd(v)
#define v_min(a, b) _mm512_min_pd(a, b)
#define v_max(a, b) _mm512_max_pd(a, b)
#define v_where_positive(a, b)                                                                     \
    _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_GT_OQ), b)
#define v_shift_bits(v, k) _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(v), k))
#define v_sum(v) _mm512_reduce_add_pd(v)
#endif

/* s (4) = the sums of four vectors: interleaved, each 128 bits hold a part of all four. */
#if REAL_BITS == 32
static inline void FN(v_sum4)(V a, V b, V c, V d, real *s) {
    const V ab = _mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b);
    const V cd = _mm512_unpacklo_ps(c, d) + _mm512_unpackhi_ps(c, d);
    const V low = _mm512_shuffle_ps(ab, cd, 0x44), high = _mm512_shuffle_ps(ab, cd, 0xee);
    const __m256 t = _mm512_castps512_ps256(low + high) + _mm512_extractf32x8_ps(low + high, 1);
    _mm_storeu_ps(s, _mm256_castps256_ps128(t) + _mm256_extractf128_ps(t, 1));
}
#else
static inline void FN(v_sum4)(V a, V b, V c, V d, real *s) {
    const V ab = _mm512_unpacklo_pd(a, b) + _mm512_unpackhi_pd(a, b);
    const V cd = _mm512_unpacklo_pd(c, d) + _mm512_unpackhi_pd(c, d);
    const __m256d x = _mm512_castpd512_pd256(ab) + _mm512_extractf64x4_pd(ab, 1);
    const __m256d y = _mm512_castpd512_pd256(cd) + _mm512_extractf64x4_pd(cd, 1);
    _mm256_storeu_pd(s, _mm256_permute2f128_pd(x, y, 0x20) + _mm256_permute2f128_pd(x, y, 0x31));
}
#endif
#define v_sum4 FN(v_sum4)
