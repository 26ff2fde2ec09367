/* The vector vocabulary on AVX-512 (F, DQ, VL, BW): 512 bits, 32 registers, masks. */
#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__) ||                   \
    !defined(__AVX512BW__)
#error "compile this file with -mavx512f -mavx512dq -mavx512vl -mavx512bw"
#endif
#include <immintrin.h>

#define V_REGISTERS 32
/* 12 x 2 accumulators, 2 vectors of b, 1 of a: 27 of the 32 registers. */
#define TILE_ROWS 12
#define TILE_VECTORS 2
/* Rows of a thin product by 4 rows of the weight, or 2 by 8: 16 accumulators. */
#define THIN_ROWS 4
/* Makes GCC load v once, and not again from memory for each use. */
#define v_keep(v) __asm__("" : "+v"(v))

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
#define v_where_nonzero(a, b)                                                                      \
    _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ), b)
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
#define v_where_nonzero(a, b)                                                                      \
    _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, _mm512_setzero_pd(), _CMP_NEQ_UQ), b)
#define v_shift_bits(v, k) _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(v), k))
#define v_sum(v) _mm512_reduce_add_pd(v)
#endif

/* s (8) = the sums of eight vectors: interleaved, until each 128 bits hold a part of four. */
#if REAL_BITS == 32
INLINE void FN(v_sum8)(const V *v, real *s) {
    V four[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const V ab =
            _mm512_unpacklo_ps(v[4 * i], v[4 * i + 1]) + _mm512_unpackhi_ps(v[4 * i], v[4 * i + 1]);
        const V cd = _mm512_unpacklo_ps(v[4 * i + 2], v[4 * i + 3]) +
                     _mm512_unpackhi_ps(v[4 * i + 2], v[4 * i + 3]);
        four[i] = _mm512_shuffle_ps(ab, cd, 0x44) + _mm512_shuffle_ps(ab, cd, 0xee);
    }
    const V half =
        _mm512_shuffle_f32x4(four[0], four[1], 0x44) + _mm512_shuffle_f32x4(four[0], four[1], 0xee);
    const V all = half + _mm512_shuffle_f32x4(half, half, 0xb1);
    _mm256_storeu_ps(s, _mm512_castps512_ps256(_mm512_shuffle_f32x4(all, all, 0x08)));
}
#else
INLINE void FN(v_sum8)(const V *v, real *s) {
    V four[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        const V ab =
            _mm512_unpacklo_pd(v[4 * i], v[4 * i + 1]) + _mm512_unpackhi_pd(v[4 * i], v[4 * i + 1]);
        const V cd = _mm512_unpacklo_pd(v[4 * i + 2], v[4 * i + 3]) +
                     _mm512_unpackhi_pd(v[4 * i + 2], v[4 * i + 3]);
        four[i] = _mm512_shuffle_f64x2(ab, cd, 0x44) + _mm512_shuffle_f64x2(ab, cd, 0xee);
    }
    _mm512_storeu_pd(s, _mm512_shuffle_f64x2(four[0], four[1], 0x88) +
                            _mm512_shuffle_f64x2(four[0], four[1], 0xdd));
}
#endif
#define v_sum8 FN(v_sum8)
