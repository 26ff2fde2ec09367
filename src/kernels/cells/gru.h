/* Gated recurrent unit, with the reset gate after or before the recurrent product. Slots: r, z, n,
 * and with reset after the product W_hn h + b_hn. Equations: fastrnn/cells/gru.py. */

INLINE void FN(gru_forward_at)(FN(spot) at) {
    const V r = FN(v_sigmoid)(FN(preactivation)(at, 0));
    const V z = FN(v_sigmoid)(FN(preactivation)(at, 1));
    const V q = FN(preactivation)(at, 3);
    const V n = FN(v_tanh)(v_fma(r, q, FN(preactivation)(at, 2)));
    if (at.frame->keep) {
        FN(set_gate)(at, 0, r);
        FN(set_gate)(at, 1, z);
        FN(set_gate)(at, 2, n);
        FN(set_gate)(at, 3, q);
    }
    FN(set_h)(at, v_fma(z, FN(state)(at, 0) - n, n));
}

INLINE void FN(gru_adjoint_at)(FN(spot) at) {
    const V one = v_set1(1);
    const V r = FN(activation)(at, 0), z = FN(activation)(at, 1);
    const V n = FN(activation)(at, 2), q = FN(activation)(at, 3);
    const V d_h = FN(d_h)(at);
    const V d_n = d_h * (one - z) * (one - n * n);
    FN(set_gate)(at, 0, d_n * q * r * (one - r));
    FN(set_gate)(at, 1, d_h * (FN(state)(at, 0) - n) * z * (one - z));
    FN(set_gate)(at, 2, d_n);
    FN(set_gate)(at, 3, d_n * r);
    FN(set_d_state)(at, 0, d_h * z);
}

INLINE void FN(gru_gates_forward_at)(FN(spot) at) {
    const V r = FN(v_sigmoid)(FN(preactivation)(at, 0));
    FN(set_gate)(at, 0, r);
    FN(set_gate)(at, 1, FN(v_sigmoid)(FN(preactivation)(at, 1)));
    FN(set_extra)(at, r * FN(state)(at, 0));
}
INLINE void FN(gru_candidate_forward_at)(FN(spot) at) {
    const V z = FN(activation)(at, 1);
    const V n = FN(v_tanh)(FN(preactivation)(at, 2));
    if (at.frame->keep) FN(set_gate)(at, 2, n);
    FN(set_h)(at, v_fma(z, FN(state)(at, 0) - n, n));
}
INLINE void FN(gru_candidate_adjoint_at)(FN(spot) at) {
    const V one = v_set1(1);
    const V z = FN(activation)(at, 1), n = FN(activation)(at, 2);
    const V d_h = FN(d_h)(at);
    FN(set_gate)(at, 1, d_h * (FN(state)(at, 0) - n) * z * (one - z));
    FN(set_gate)(at, 2, d_h * (one - z) * (one - n * n));
    FN(set_d_state)(at, 0, d_h * z);
}
INLINE void FN(gru_gates_adjoint_at)(FN(spot) at) {
    const V r = FN(activation)(at, 0), d_extra = FN(d_extra)(at);
    FN(set_gate)(at, 0, d_extra * FN(state)(at, 0) * r * (v_set1(1) - r));
    FN(set_d_state)(at, 0, v_fma(d_extra, r, FN(d_next)(at, 0)));
}

static void FN(gru_forward)(const fr_frame *f) { FN(for_each_vector)(f, FN(gru_forward_at)); }
static void FN(gru_adjoint)(const fr_frame *f) { FN(for_each_vector)(f, FN(gru_adjoint_at)); }
static void FN(gru_gates_forward)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(gru_gates_forward_at));
}
static void FN(gru_gates_adjoint)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(gru_gates_adjoint_at));
}
static void FN(gru_candidate_forward)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(gru_candidate_forward_at));
}
static void FN(gru_candidate_adjoint)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(gru_candidate_adjoint_at));
}

#define GRU_CELL                                                                                   \
    {                                                                                              \
        .name = "gru", .states = 1, .gates = 3, .slots = 4, .stages = 1, .d_state_direct = 1,      \
        .stage = {{FR_OPERAND_H, FR_WEIGHT_HH, 0, 3, {0, 1, 3}, FN(gru_forward), FN(gru_adjoint)}} \
    }
#define GRU_RESET_BEFORE_CELL                                                                      \
    {                                                                                              \
        .name = "gru_reset_before", .states = 1, .gates = 3, .slots = 3, .stages = 2,              \
        .d_state_direct = 1,                                                                       \
        .stage = {{FR_OPERAND_H,                                                                   \
                   FR_WEIGHT_HH,                                                                   \
                   0,                                                                              \
                   2,                                                                              \
                   {0, 1},                                                                         \
                   FN(gru_gates_forward),                                                          \
                   FN(gru_gates_adjoint)},                                                         \
                  {FR_OPERAND_EXTRA,                                                               \
                   FR_WEIGHT_HH,                                                                   \
                   2,                                                                              \
                   1,                                                                              \
                   {2},                                                                            \
                   FN(gru_candidate_forward),                                                      \
                   FN(gru_candidate_adjoint)}}                                                     \
    }
