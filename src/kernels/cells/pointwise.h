/* What the pointwise functions of all cells share: the walk over a frame, and access to one vector
 * of n <= V_WIDTH units of it. n is a constant in all but the last vector of a row. */

/* Where a pointwise function stands: `row`, first unit `u`, `n` units. Functions that serve several
 * cells also need a number `k`, of gates or of a slot: a constant once all is inlined. */
typedef struct {
    const fr_frame *frame;
    fr_index row, u, n;
    int k;
} FN(spot);

INLINE real *FN(gate)(FN(spot) at, int slot) {
    const fr_frame *f = at.frame;
    return (real *)f->gates + at.row * f->gates_row + slot * f->gates_slot + at.u;
}
/* Pre-activation of a slot: product plus bias. */
INLINE V FN(preactivation)(FN(spot) at, int slot) {
    const fr_frame *f = at.frame;
    V z = FN(load)(FN(gate)(at, slot), at.n);
    if (f->bias) z += FN(load)((const real *)f->bias + slot * f->bias_slot + at.u, at.n);
    return z;
}
INLINE V FN(activation)(FN(spot) at, int slot) { return FN(load)(FN(gate)(at, slot), at.n); }
INLINE void FN(set_gate)(FN(spot) at, int slot, V v) { FN(store)(FN(gate)(at, slot), v, at.n); }

INLINE V FN(state)(FN(spot) at, int which) {
    const fr_frame *f = at.frame;
    return FN(load)((const real *)f->state[which] + at.row * f->state_row[which] + at.u, at.n);
}
INLINE void FN(set_next)(FN(spot) at, int which, V v) {
    const fr_frame *f = at.frame;
    FN(store)((real *)f->next[which] + at.row * f->next_row[which] + at.u, v, at.n);
}
/* h goes into the state and, where there is one, into the output. */
INLINE void FN(set_h)(FN(spot) at, V h) {
    const fr_frame *f = at.frame;
    FN(set_next)(at, 0, h);
    if (f->out) FN(store)((real *)f->out + at.row * f->out_row + at.u, h, at.n);
}
INLINE void FN(set_extra)(FN(spot) at, V v) {
    const fr_frame *f = at.frame;
    FN(store)((real *)f->extra + at.row * f->extra_row + at.u, v, at.n);
}

INLINE real *FN(d_state)(FN(spot) at, int which) {
    const fr_frame *f = at.frame;
    return (real *)f->d_state[which] + at.row * f->d_state_row[which] + at.u;
}
INLINE V FN(d_next)(FN(spot) at, int which) { return FN(load)(FN(d_state)(at, which), at.n); }
INLINE void FN(set_d_state)(FN(spot) at, int which, V v) {
    FN(store)(FN(d_state)(at, which), v, at.n);
}
/* Gradient of h: through the next step and through the output. */
INLINE V FN(d_h)(FN(spot) at) {
    const fr_frame *f = at.frame;
    V d = FN(d_next)(at, 0);
    if (f->d_out) d += FN(load)((const real *)f->d_out + at.row * f->d_out_row + at.u, at.n);
    return d;
}
INLINE V FN(d_extra)(FN(spot) at) {
    const fr_frame *f = at.frame;
    return FN(load)((const real *)f->d_extra + at.row * f->d_extra_row + at.u, at.n);
}

/* Block `block` of one of the cell's own parameters. */
INLINE V FN(vector)(FN(spot) at, int which, int block) {
    const fr_frame *f = at.frame;
    return FN(load)((const real *)f->vector[which] + block * f->vector_slot + at.u, at.n);
}
INLINE void FN(add_d_vector)(FN(spot) at, int which, int block, V v) {
    const fr_frame *f = at.frame;
    FN(store_or_add)((real *)f->d_vector[which] + block * f->vector_slot + at.u, v, at.n, 1);
}

INLINE void FN(for_each_vector_with)(const fr_frame *f, int k, void (*at)(FN(spot))) {
    for (fr_index row = 0; row < f->rows; row++) {
        fr_index u = 0;
        for (; u + V_WIDTH <= f->units; u += V_WIDTH) at((FN(spot)){f, row, u, V_WIDTH, k});
        if (u < f->units) at((FN(spot)){f, row, u, f->units - u, k});
    }
}
INLINE void FN(for_each_vector)(const fr_frame *f, void (*at)(FN(spot))) {
    FN(for_each_vector_with)(f, 0, at);
}
