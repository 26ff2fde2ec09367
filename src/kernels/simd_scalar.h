/* The vector vocabulary with vectors of one element: portable C, and the model for the others. */
#include <string.h>

#define V_WIDTH 1
#define V_REGISTERS 16
#define TILE_ROWS 4
#define TILE_VECTORS 4
#define THIN_ROWS 3
#define v_keep(v) ((void)(v))
#define V real
#define v_set1(x) (x)
#define v_load(p) (*(p))
#define v_store(p, v) (*(p) = (v))
#define v_load_n(p, n) ((void)(n), *(p))
#define v_store_n(p, v, n) ((void)(n), *(p) = (v))
#define v_sum(v) (v)
/* min and max return the second argument when either is NaN. */
#define v_min(a, b) ((a) < (b) ? (a) : (b))
#define v_max(a, b) ((a) > (b) ? (a) : (b))
/* NaN is not positive, and not zero. */
#define v_where_positive(a, b) ((a) > 0 ? (b) : 0)
#define v_where_nonzero(a, b) ((a) != 0 ? (b) : 0)

/* Rounds twice: fmaf() would be a library call if the CPU has no such instruction. */
#define v_fma(a, b, c) ((a) * (b) + (c))

#if REAL_BITS == 32
#define v_sqrt(v) sqrtf(v)
static inline float FN(v_shift_bits)(float x, int k) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits <<= k;
    memcpy(&x, &bits, sizeof bits);
    return x;
}
#else
#define v_sqrt(v) sqrt(v)
static inline double FN(v_shift_bits)(double x, int k) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits <<= k;
    memcpy(&x, &bits, sizeof bits);
    return x;
}
#endif
#define v_shift_bits FN(v_shift_bits)

/* s (8) = the sums of eight vectors */
INLINE void FN(v_sum8)(const V *v, real *s) {
    UNROLL
    for (int i = 0; i < 8; i++) s[i] = v_sum(v[i]);
}
#define v_sum8 FN(v_sum8)
