/* The vector vocabulary on AArch64 Advanced SIMD: 128 bits, 32 registers. */
#ifndef __aarch64__
#error "this file is for AArch64"
#endif
#include <arm_neon.h>

#define V_REGISTERS 32
/* 6 x 4 accumulators, 4 vectors of b, 1 of a: 29 of the 32 registers. */
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define THIN_ROWS 4
/* Makes GCC load v once, and not again from memory for each use. */
#define v_keep(v) __asm__("" : "+w"(v))

#if REAL_BITS == 32
#define V_WIDTH 4
#define V float32x4_t
#define v_set1(x) vdupq_n_f32(x)
#define v_load(p) vld1q_f32(p)
#define v_store(p, v) vst1q_f32(p, v)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_where_positive(a, b)                                                                     \
    vreinterpretq_f32_u32(vandq_u32(vcgtzq_f32(a), vreinterpretq_u32_f32(b)))
#define v_where_nonzero(a, b)                                                                      \
    vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(b), vceqzq_f32(a)))
#define v_sqrt(v) vsqrtq_f32(v)
#define v_min(a, b) vbslq_f32(vcltq_f32(a, b), a, b)
#define v_max(a, b) vbslq_f32(vcgtq_f32(a, b), a, b)
#define v_shift_bits(v, k) vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(v), k))
#define v_sum(v) vaddvq_f32(v)
#else
#define V_WIDTH 2
#define V float64x2_t
#define v_set1(x) vdupq_n_f64(x)
#define v_load(p) vld1q_f64(p)
#define v_store(p, v) vst1q_f64(p, v)
#define v_fma(a, b, c) vfmaq_f64(c, a, b)
#define v_where_positive(a, b)                                                                     \
    vreinterpretq_f64_u64(vandq_u64(vcgtzq_f64(a), vreinterpretq_u64_f64(b)))
#define v_where_nonzero(a, b)                                                                      \
    vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(b), vceqzq_f64(a)))
#define v_sqrt(v) vsqrtq_f64(v)
#define v_min(a, b) vbslq_f64(vcltq_f64(a, b), a, b)
#define v_max(a, b) vbslq_f64(vcgtq_f64(a, b), a, b)
#define v_shift_bits(v, k) vreinterpretq_f64_u64(vshlq_n_u64(vreinterpretq_u64_f64(v), k))
#define v_sum(v) vaddvq_f64(v)
#endif

/* There are no masked accesses: the first n < V_WIDTH elements go through a small array. */
static inline V FN(v_load_n)(const real *p, fr_index n) {
    real tail[V_WIDTH] = {0};
    for (fr_index i = 0; i < n; i++) tail[i] = p[i];
    return v_load(tail);
}
static inline void FN(v_store_n)(real *p, V v, fr_index n) {
    real tail[V_WIDTH];
    v_store(tail, v);
    for (fr_index i = 0; i < n; i++) p[i] = tail[i];
}
#define v_load_n FN(v_load_n)
#define v_store_n FN(v_store_n)

/* s (8) = the sums of eight vectors */
INLINE void FN(v_sum8)(const V *v, real *s) {
    UNROLL
    for (int i = 0; i < 8; i++) s[i] = v_sum(v[i]);
}
#define v_sum8 FN(v_sum8)
