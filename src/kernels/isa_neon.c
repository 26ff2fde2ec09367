#define ISA "neon"
#define SIMD_HEADER "simd_neon.h"
#define REAL_BITS 32
#include "kernels.inc.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "kernels.inc.h"

const fr_kernels *const fr_kernels_neon[2] = {&kernels_f32, &kernels_f64};
