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

/* s (4) = the sums of four vectors */
static inline void FN(v_sum4)(V a, V b, V c, V d, real *s) {
    s[0] = v_sum(a);
    s[1] = v_sum(b);
    s[2] = v_sum(c);
    s[3] = v_sum(d);
}
#define v_sum4 FN(v_sum4)
