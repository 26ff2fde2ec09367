/* All kernels for one element type and one instruction set.
 *
 * An isa_*.c file sets ISA and SIMD_HEADER and includes this file twice, with REAL_BITS 32 and 64.
 * FN(name) keeps the two apart. The text below is written over the vocabulary of SIMD_HEADER:
 * V is a vector of V_WIDTH `real`, arithmetic is by operators, the rest by the v_* names.
 */
#include <math.h>
#include <string.h>

#include "fastrnn_kernels.h"

#define CAT_(a, b) a##_f##b
#define CAT(a, b) CAT_(a, b)
#define FN(name) CAT(name, REAL_BITS)
#define real FN(real)
#define INLINE static inline __attribute__((always_inline))
/* Before a loop with constant bounds over an array of vectors, which so become registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#define ROLLED _Pragma("GCC unroll 1")
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FR_SHUFFLE __builtin_shufflevector
#endif
#endif

#if REAL_BITS == 32
typedef float real;
#else
typedef double real;
#endif

#include SIMD_HEADER

/* A vector of n <= V_WIDTH elements; n is a constant wherever the vector is a full one. */
INLINE V FN(load)(const real *p, fr_index n) { return n == V_WIDTH ? v_load(p) : v_load_n(p, n); }
INLINE void FN(store)(real *p, V v, fr_index n) {
    if (n == V_WIDTH)
        v_store(p, v);
    else
        v_store_n(p, v, n);
}
/* to = v + add, where add may be NULL. */
INLINE void FN(store_sum)(real *to, V v, const real *add, fr_index n) {
    if (add) v += FN(load)(add, n);
    FN(store)(to, v, n);
}
INLINE void FN(store_or_add)(real *p, V v, fr_index n, int add) {
    FN(store_sum)(p, v, add ? p : NULL, n);
}

/* clang-format off */
#include "math.inc.h"
#include "thin.inc.h"
#include "gemm.inc.h"
#include "training.inc.h"
#include "masks.inc.h"
#include "cells/pointwise.h"
#include "cells/rnn.h"
#include "cells/lstm.h"
#include "cells/lstm_variants.h"
#include "cells/gru.h"
/* clang-format on */

static const fr_cell FN(cells)[] = {
    RNN_TANH_CELL, RNN_RELU_CELL,         LSTM_CELL,        LSTM_PROJECTED_CELL,
    GRU_CELL,      GRU_RESET_BEFORE_CELL, LSTM_VARIANTS{0},
};

static const fr_kernels FN(kernels) = {
    .isa = ISA,
    .item_size = sizeof(real),
    .tile_cols = TILE_COLS,
    .pack = FN(pack),
    .product = FN(product),
    .multiply = FN(multiply),
    .add_outer_products = FN(add_outer_products),
    .thin = FN(thin),
    .thin_transposed = FN(thin_transposed),
    .transpose = FN(transpose),
    .add_transposed = FN(add_transposed),
    .add_column_sums = FN(add_column_sums),
    .mask = FN(mask),
    .zoneout = FN(zoneout),
    .zoneout_adjoint = FN(zoneout_adjoint),
    .exp = FN(map_exp),
    .tanh = FN(map_tanh),
    .sigmoid = FN(map_sigmoid),
    .softmax_cross_entropy = FN(softmax_cross_entropy),
    .sum_of_squares = FN(sum_of_squares),
    .sgd = FN(sgd),
    .adam = FN(adam),
    .cells = FN(cells),
};

#include "undef.h"
