/* Long short-term memory, with and without a projection of h. Slots: i, f, g, o, and for the
 * projection its product. Equations: fastrnn/cells/lstm.py. */

INLINE V FN(lstm_cell_state)(V i, V f, V g, V c) { return v_fma(f, c, i * g); }

INLINE V FN(lstm_forward_h)(FN(spot) at) {
    const V i = FN(v_sigmoid)(FN(preactivation)(at, 0));
    const V f = FN(v_sigmoid)(FN(preactivation)(at, 1));
    const V g = FN(v_tanh)(FN(preactivation)(at, 2));
    const V o = FN(v_sigmoid)(FN(preactivation)(at, 3));
    const V c = FN(lstm_cell_state)(i, f, g, FN(state)(at, 1));
    if (at.frame->keep) {
        FN(set_gate)(at, 0, i);
        FN(set_gate)(at, 1, f);
        FN(set_gate)(at, 2, g);
        FN(set_gate)(at, 3, o);
    }
    FN(set_next)(at, 1, c);
    return o * FN(v_tanh)(c);
}

/* c' is computed anew from the gates: that is cheaper than to keep it. */
INLINE void FN(lstm_adjoint_h)(FN(spot) at, V d_h) {
    const V one = v_set1(1);
    const V i = FN(activation)(at, 0), f = FN(activation)(at, 1);
    const V g = FN(activation)(at, 2), o = FN(activation)(at, 3);
    const V c = FN(state)(at, 1);
    const V t = FN(v_tanh)(FN(lstm_cell_state)(i, f, g, c));
    const V d_c = v_fma(d_h * o, one - t * t, FN(d_next)(at, 1));
    FN(set_gate)(at, 0, d_c * g * i * (one - i));
    FN(set_gate)(at, 1, d_c * c * f * (one - f));
    FN(set_gate)(at, 2, d_c * i * (one - g * g));
    FN(set_gate)(at, 3, d_h * t * o * (one - o));
    FN(set_d_state)(at, 1, d_c * f);
}

INLINE void FN(lstm_forward_at)(FN(spot) at) { FN(set_h)(at, FN(lstm_forward_h)(at)); }
INLINE void FN(lstm_adjoint_at)(FN(spot) at) { FN(lstm_adjoint_h)(at, FN(d_h)(at)); }
INLINE void FN(lstm_gates_forward_at)(FN(spot) at) { FN(set_extra)(at, FN(lstm_forward_h)(at)); }
INLINE void FN(lstm_gates_adjoint_at)(FN(spot) at) { FN(lstm_adjoint_h)(at, FN(d_extra)(at)); }
INLINE void FN(projection_forward_at)(FN(spot) at) { FN(set_h)(at, FN(activation)(at, at.k)); }
INLINE void FN(projection_adjoint_at)(FN(spot) at) { FN(set_gate)(at, at.k, FN(d_h)(at)); }

static void FN(lstm_forward)(const fr_frame *f) { FN(for_each_vector)(f, FN(lstm_forward_at)); }
static void FN(lstm_adjoint)(const fr_frame *f) { FN(for_each_vector)(f, FN(lstm_adjoint_at)); }
static void FN(lstm_gates_forward)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(lstm_gates_forward_at));
}
static void FN(lstm_gates_adjoint)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(lstm_gates_adjoint_at));
}
static void FN(projection_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(projection_forward_at));
}
static void FN(projection_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(projection_adjoint_at));
}

#define LSTM_CELL                                                                                  \
    {                                                                                              \
        .name = "lstm", .states = 2, .gates = 4, .slots = 4, .stages = 1,                          \
        .stage = {                                                                                 \
            {FR_OPERAND_H, FR_WEIGHT_HH, 0, 4, {0, 1, 2, 3}, FN(lstm_forward), FN(lstm_adjoint)}}  \
    }
#define LSTM_PROJECTED_CELL                                                                        \
    {                                                                                              \
        .name = "lstm_projected", .states = 2, .gates = 4, .slots = 5, .stages = 2,                \
        .stage = {{FR_OPERAND_H,                                                                   \
                   FR_WEIGHT_HH,                                                                   \
                   0,                                                                              \
                   4,                                                                              \
                   {0, 1, 2, 3},                                                                   \
                   FN(lstm_gates_forward),                                                         \
                   FN(lstm_gates_adjoint)},                                                        \
                  {FR_OPERAND_EXTRA,                                                               \
                   FR_WEIGHT_HR,                                                                   \
                   0,                                                                              \
                   1,                                                                              \
                   {4},                                                                            \
                   FN(projection_forward),                                                         \
                   FN(projection_adjoint)}}                                                        \
    }
