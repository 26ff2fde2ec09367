/* exp, tanh and the logistic sigmoid on vectors.
 *
 * All three stand on expm1 of a reduced argument: x = n ln 2 + r with |r| <= ln(2)/2, and the
 * Taylor polynomial of expm1(r), whose truncation is below half an ULP (its next term is
 * r^8/8! < 6e-9 relative for float32, r^14/14! < 5e-18 for float64).
 *
 * Error bounds, tested in tests/test_math.py: exp 1.5 ULP, tanh 3 ULP, sigmoid 2.5 ULP, for results
 * that are normal numbers; where the true result is denormal the error is below the smallest
 * normal number. NaN gives NaN; tanh(+-inf) = +-1, sigmoid(-inf) = 0, sigmoid(inf) = 1.
 */
#if REAL_BITS == 32
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */
#define MANTISSA_BITS 23
#define EXPONENT_BIAS 127.0f
#define LN2_HIGH 0.693145751953125f /* 15 bits, so that n * LN2_HIGH is exact */
#define LN2_LOW 1.42860682030941723e-06f
#define EXP_LOW (-104.0f) /* below: exp is 0 */
#define EXP_HIGH 89.0f    /* above: exp is inf */
#define TANH_ONE 10.0f    /* above: tanh is 1 */
#define SIGMOID_ONE 87.0f /* above: sigmoid is 1; exp(-87) is still normal */
#else
#define ROUND_MAGIC 6755399441055744.0 /* 1.5 * 2^52 */
#define MANTISSA_BITS 52
#define EXPONENT_BIAS 1023.0
#define LN2_HIGH 0.69314718055989033
#define LN2_LOW 5.4979230187083712e-14
#define EXP_LOW (-746.0)
#define EXP_HIGH 710.0
#define TANH_ONE 20.0
#define SIGMOID_ONE 708.0
#endif

/* 2^n for integral n of a normal result. */
INLINE V FN(pow2)(V n) {
    return v_shift_bits(n + v_set1(ROUND_MAGIC + EXPONENT_BIAS), MANTISSA_BITS);
}

/* Returns expm1(r) and sets n, where x = n ln 2 + r. */
INLINE V FN(reduced_expm1)(V x, V *n) {
    const V magic = v_set1(ROUND_MAGIC);
    *n = v_fma(x, v_set1((real)1.4426950408889634), magic) - magic;
    V r = v_fma(*n, v_set1(-LN2_HIGH), x);
    r = v_fma(*n, v_set1(-LN2_LOW), r);
#if REAL_BITS == 32
    V p = v_set1((real)(1. / 5040));
#else
    V p = v_set1((real)(1. / 6227020800));
    p = v_fma(p, r, v_set1((real)(1. / 479001600)));
    p = v_fma(p, r, v_set1((real)(1. / 39916800)));
    p = v_fma(p, r, v_set1((real)(1. / 3628800)));
    p = v_fma(p, r, v_set1((real)(1. / 362880)));
    p = v_fma(p, r, v_set1((real)(1. / 40320)));
    p = v_fma(p, r, v_set1((real)(1. / 5040)));
#endif
    p = v_fma(p, r, v_set1((real)(1. / 720)));
    p = v_fma(p, r, v_set1((real)(1. / 120)));
    p = v_fma(p, r, v_set1((real)(1. / 24)));
    p = v_fma(p, r, v_set1((real)(1. / 6)));
    p = v_fma(p, r, v_set1((real)0.5));
    return v_fma(p, r * r, r);
}

INLINE V FN(v_exp)(V x) {
    /* The bounds are the first arguments: NaN in x passes. */
    x = v_min(v_set1(EXP_HIGH), v_max(v_set1(EXP_LOW), x));
    V n, p = FN(reduced_expm1)(x, &n);
    /* 2^n in two factors, since n leaves the range of normal exponents at both ends. */
    const V magic = v_set1(ROUND_MAGIC);
    V half = v_fma(n, v_set1((real)0.5), magic) - magic;
    return (p + v_set1(1)) * FN(pow2)(half) * FN(pow2)(n - half);
}

/* tanh(x) = e / (e + 2) with e = expm1(2x): keeps relative accuracy through zero. */
INLINE V FN(v_tanh)(V x) {
    x = v_min(v_set1(TANH_ONE), v_max(v_set1(-TANH_ONE), x));
    V n, p = FN(reduced_expm1)(x + x, &n);
    V scale = FN(pow2)(n);
    V e = v_fma(scale, p, scale - v_set1(1));
    return e / (e + v_set1(2));
}

/* 1 / (1 + exp(-x)), where one factor 2^n is enough: at n = EXPONENT_BIAS + 1 it is inf, and the
 * result, which is denormal there, becomes 0. */
INLINE V FN(v_sigmoid)(V x) {
    x = v_min(v_set1(SIGMOID_ONE), v_max(v_set1(-EXP_HIGH), x));
    V n, p = FN(reduced_expm1)(-x, &n);
    V scale = FN(pow2)(n);
    return v_set1(1) / (v_set1(1) + (p + v_set1(1)) * scale);
}

INLINE void FN(map)(fr_index n, const real *x, real *y, V (*f)(V)) {
    fr_index i = 0;
    for (; i + V_WIDTH <= n; i += V_WIDTH) v_store(y + i, f(v_load(x + i)));
    if (i < n) v_store_n(y + i, f(v_load_n(x + i, n - i)), n - i);
}
static void FN(map_exp)(fr_index n, const void *x, void *y) { FN(map)(n, x, y, FN(v_exp)); }
static void FN(map_tanh)(fr_index n, const void *x, void *y) { FN(map)(n, x, y, FN(v_tanh)); }
static void FN(map_sigmoid)(fr_index n, const void *x, void *y) { FN(map)(n, x, y, FN(v_sigmoid)); }
