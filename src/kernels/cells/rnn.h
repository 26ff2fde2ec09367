/* Elman's recurrent network: h' = tanh(z) or max(z, 0), with z = W_ih x + W_hh h + b.
 * Slot 0: z, then h', then the gradient of z. Equations: fastrnn/cells/rnn.py. */

INLINE void FN(rnn_forward_at)(FN(spot) at, V (*f)(V)) {
    const V h = f(FN(preactivation)(at, 0));
    if (at.frame->keep) FN(set_gate)(at, 0, h);
    FN(set_h)(at, h);
}

INLINE V FN(v_relu)(V z) { return v_max(v_set1(0), z); }

INLINE void FN(rnn_tanh_forward_at)(FN(spot) at) { FN(rnn_forward_at)(at, FN(v_tanh)); }
INLINE void FN(rnn_relu_forward_at)(FN(spot) at) { FN(rnn_forward_at)(at, FN(v_relu)); }

INLINE void FN(rnn_tanh_adjoint_at)(FN(spot) at) {
    const V h = FN(activation)(at, 0);
    FN(set_gate)(at, 0, FN(d_h)(at) * (v_set1(1) - h * h));
}
/* Not a product: no gradient passes a unit that is off, not even an infinite one. */
INLINE void FN(rnn_relu_adjoint_at)(FN(spot) at) {
    FN(set_gate)(at, 0, v_where_nonzero(FN(activation)(at, 0), FN(d_h)(at)));
}

static void FN(rnn_tanh_forward)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(rnn_tanh_forward_at));
}
static void FN(rnn_tanh_adjoint)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(rnn_tanh_adjoint_at));
}
static void FN(rnn_relu_forward)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(rnn_relu_forward_at));
}
static void FN(rnn_relu_adjoint)(const fr_frame *f) {
    FN(for_each_vector)(f, FN(rnn_relu_adjoint_at));
}

#define RNN_TANH_CELL                                                                              \
    {                                                                                              \
        .name = "rnn_tanh", .states = 1, .gates = 1, .slots = 1, .stages = 1,                      \
        .stage = {                                                                                 \
            {FR_OPERAND_H, FR_WEIGHT_HH, 0, 1, {0}, FN(rnn_tanh_forward), FN(rnn_tanh_adjoint)}}   \
    }
#define RNN_RELU_CELL                                                                              \
    {                                                                                              \
        .name = "rnn_relu", .states = 1, .gates = 1, .slots = 1, .stages = 1,                      \
        .stage = {                                                                                 \
            {FR_OPERAND_H, FR_WEIGHT_HH, 0, 1, {0}, FN(rnn_relu_forward), FN(rnn_relu_adjoint)}}   \
    }
