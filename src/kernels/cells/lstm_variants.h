/* The LSTM with peepholes, a bound on its cell, a coupled input and forget gate, and layer
 * normalisation. Equations: fastrnn/cells/lstm_variants.py.
 *
 * `gates` is 4 for i, f, g, o and 3 for i, g, o, where f = 1 - i. The arguments of the gates are in
 * the slots from `first` on. Without normalisation `first` is 0; with it, the first `gates` slots
 * hold the input product, the next `gates` the recurrent one, and the next the arguments. */
enum { FN(PEEPHOLE), FN(GAIN_IH), FN(GAIN_HH), FN(BIAS), FN(GAIN_C), FN(BIAS_C) };

INLINE V FN(bounded)(FN(spot) at, V c) {
    const real bound = (real)at.frame->cell_clip;
    return v_min(v_set1(bound), v_max(v_set1(-bound), c));
}

/* c' before it is clipped, from the activations of the gates. */
INLINE V FN(unbounded_state)(FN(spot) at, int gates, int first) {
    const V i = FN(activation)(at, first), g = FN(activation)(at, first + gates - 2);
    V f = v_set1(1) - i;
    if (gates == 4) f = FN(activation)(at, first + 1);
    return FN(lstm_cell_state)(i, f, g, FN(state)(at, 1));
}

/* Makes c' and, with `keep`, puts the activations in their slots; returns o. */
INLINE V FN(variant_state)(FN(spot) at, int gates, int first, int keep) {
    const V c = FN(state)(at, 1);
    const V z_i = FN(preactivation)(at, first);
    const V i = FN(v_sigmoid)(v_fma(FN(vector)(at, FN(PEEPHOLE), 0), c, z_i));
    V f = v_set1(1) - i;
    if (gates == 4) {
        const V z_f = FN(preactivation)(at, first + 1);
        f = FN(v_sigmoid)(v_fma(FN(vector)(at, FN(PEEPHOLE), 1), c, z_f));
        if (keep) FN(set_gate)(at, first + 1, f);
    }
    const V g = FN(v_tanh)(FN(preactivation)(at, first + gates - 2));
    const V next = FN(bounded)(at, FN(lstm_cell_state)(i, f, g, c));
    const V z_o = FN(preactivation)(at, first + gates - 1);
    const V o = FN(v_sigmoid)(v_fma(FN(vector)(at, FN(PEEPHOLE), gates - 2), next, z_o));
    FN(set_next)(at, 1, next);
    if (keep) {
        FN(set_gate)(at, first, i);
        FN(set_gate)(at, first + gates - 2, g);
        FN(set_gate)(at, first + gates - 1, o);
    }
    return o;
}

/* Takes the gradients d_o of the argument of o and d_c of c', the latter without the path through
 * o; gives the gradients of all arguments, of the peepholes and of c. */
INLINE void FN(variant_state_adjoint)(FN(spot) at, int gates, int first, V d_o, V d_c) {
    const V one = v_set1(1), c = FN(state)(at, 1);
    const V i = FN(activation)(at, first), g = FN(activation)(at, first + gates - 2);
    const V free = FN(unbounded_state)(at, gates, first), next = FN(bounded)(at, free);
    const V beyond = v_max(free - next, next - free);
    FN(add_d_vector)(at, FN(PEEPHOLE), gates - 2, d_o * next);
    d_c = v_fma(d_o, FN(vector)(at, FN(PEEPHOLE), gates - 2), d_c);
    d_c -= v_where_positive(beyond, d_c);
    V f = one - i, d_i = d_c * g, d_state = v_set1(0);
    if (gates == 4) {
        f = FN(activation)(at, first + 1);
        const V d_f = d_c * c * f * (one - f);
        FN(set_gate)(at, first + 1, d_f);
        FN(add_d_vector)(at, FN(PEEPHOLE), 1, d_f * c);
        d_state = d_f * FN(vector)(at, FN(PEEPHOLE), 1);
    } else {
        d_i -= d_c * c;
    }
    d_i *= i * (one - i);
    FN(add_d_vector)(at, FN(PEEPHOLE), 0, d_i * c);
    FN(set_gate)(at, first, d_i);
    FN(set_gate)(at, first + gates - 2, d_c * i * (one - g * g));
    FN(set_gate)(at, first + gates - 1, d_o);
    d_state = v_fma(d_i, FN(vector)(at, FN(PEEPHOLE), 0), d_state);
    FN(set_d_state)(at, 1, v_fma(d_c, f, d_state));
}

INLINE V FN(next_c)(FN(spot) at) {
    const fr_frame *f = at.frame;
    return FN(load)((const real *)f->next[1] + at.row * f->next_row[1] + at.u, at.n);
}

/* ---- without normalisation ------------------------------------------------------------------- */

INLINE V FN(variant_forward_h)(FN(spot) at, int gates) {
    const V o = FN(variant_state)(at, gates, 0, at.frame->keep);
    return o * FN(v_tanh)(FN(next_c)(at));
}
INLINE void FN(variant_adjoint_h)(FN(spot) at, int gates, V d_h) {
    const V one = v_set1(1), o = FN(activation)(at, gates - 1);
    const V t = FN(v_tanh)(FN(bounded)(at, FN(unbounded_state)(at, gates, 0)));
    const V d_c = v_fma(d_h * o, one - t * t, FN(d_next)(at, 1));
    FN(variant_state_adjoint)(at, gates, 0, d_h * t * o * (one - o), d_c);
}

INLINE void FN(variant_forward_at)(FN(spot) at) { FN(set_h)(at, FN(variant_forward_h)(at, at.k)); }
INLINE void FN(variant_adjoint_at)(FN(spot) at) { FN(variant_adjoint_h)(at, at.k, FN(d_h)(at)); }
INLINE void FN(variant_gates_forward_at)(FN(spot) at) {
    FN(set_extra)(at, FN(variant_forward_h)(at, at.k));
}
INLINE void FN(variant_gates_adjoint_at)(FN(spot) at) {
    FN(variant_adjoint_h)(at, at.k, FN(d_extra)(at));
}

static void FN(peephole_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(variant_forward_at));
}
static void FN(peephole_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(variant_adjoint_at));
}
static void FN(peephole_gates_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(variant_gates_forward_at));
}
static void FN(peephole_gates_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 4, FN(variant_gates_adjoint_at));
}
static void FN(coupled_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(variant_forward_at));
}
static void FN(coupled_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(variant_adjoint_at));
}
static void FN(coupled_gates_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(variant_gates_forward_at));
}
static void FN(coupled_gates_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(variant_gates_adjoint_at));
}
static void FN(coupled_projection_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(projection_forward_at));
}
static void FN(coupled_projection_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 3, FN(projection_adjoint_at));
}

/* ---- with normalisation ---------------------------------------------------------------------- */

/* (x - mean) * scale is the normalised x; `sum` gathers x, then the squares of x - mean. */
typedef struct {
    V sum, mean, scale;
} FN(moments);

/* Passed on between the loops over one row: moments of the two products and of c'; in the adjoint
 * also, for each of them, the sums of y and of y x for the gradient y of the normalised x. */
typedef struct {
    FN(moments) ih, hh, c;
    V ih_sum, ih_product, hh_sum, hh_product, c_sum, c_product;
    int gates; /* a constant, once all of this is inlined */
} FN(norms);

INLINE void FN(for_each_of_row)(const fr_frame *f, fr_index row, void (*at)(FN(spot), FN(norms) *),
                                FN(norms) * s) {
    fr_index u = 0;
    for (; u + V_WIDTH <= f->units; u += V_WIDTH) at((FN(spot)){f, row, u, V_WIDTH, 0}, s);
    if (u < f->units) at((FN(spot)){f, row, u, f->units - u, 0}, s);
}

INLINE void FN(set_mean)(FN(moments) * m, fr_index count) {
    m->mean = v_set1(v_sum(m->sum) / (real)count);
    m->sum = v_set1(0);
}
INLINE void FN(set_scale)(FN(moments) * m, fr_index count) {
    m->scale = v_set1((real)(1 / sqrt(v_sum(m->sum) / (double)count + 1e-5)));
}
INLINE V FN(normal)(V x, const FN(moments) * m) { return (x - m->mean) * m->scale; }
/* The square of x - mean; zero after the first n elements. */
INLINE V FN(square)(FN(spot) at, V x, const FN(moments) * m) {
    static const real ones[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const V d = (x - m->mean) * FN(load)(ones, at.n);
    return d * d;
}

INLINE void FN(sum_products)(FN(spot) at, FN(norms) * s) {
    for (int k = 0; k < s->gates; k++) {
        s->ih.sum += FN(activation)(at, k);
        s->hh.sum += FN(activation)(at, s->gates + k);
    }
}
INLINE void FN(square_products)(FN(spot) at, FN(norms) * s) {
    for (int k = 0; k < s->gates; k++) {
        s->ih.sum += FN(square)(at, FN(activation)(at, k), &s->ih);
        s->hh.sum += FN(square)(at, FN(activation)(at, s->gates + k), &s->hh);
    }
}
INLINE void FN(measure_products)(const fr_frame *f, fr_index row, FN(norms) * s) {
    FN(for_each_of_row)(f, row, FN(sum_products), s);
    FN(set_mean)(&s->ih, s->gates * f->units);
    FN(set_mean)(&s->hh, s->gates * f->units);
    FN(for_each_of_row)(f, row, FN(square_products), s);
    FN(set_scale)(&s->ih, s->gates * f->units);
    FN(set_scale)(&s->hh, s->gates * f->units);
}

INLINE void FN(normalised_state)(FN(spot) at, FN(norms) * s) {
    for (int k = 0; k < s->gates; k++) {
        const V ih = FN(normal)(FN(activation)(at, k), &s->ih);
        const V hh = FN(normal)(FN(activation)(at, s->gates + k), &s->hh);
        V z = v_fma(FN(vector)(at, FN(GAIN_IH), k), ih, FN(vector)(at, FN(BIAS), k));
        z = v_fma(FN(vector)(at, FN(GAIN_HH), k), hh, z);
        FN(set_gate)(at, 2 * s->gates + k, z);
    }
    FN(variant_state)(at, s->gates, 2 * s->gates, 1);
    s->c.sum += FN(next_c)(at);
}
INLINE void FN(square_next)(FN(spot) at, FN(norms) * s) {
    s->c.sum += FN(square)(at, FN(next_c)(at), &s->c);
}
/* o * tanh(LN(c')) */
INLINE V FN(normalised_h)(FN(spot) at, const FN(norms) * s, V c) {
    const V n = FN(normal)(c, &s->c);
    const V y = v_fma(FN(vector)(at, FN(GAIN_C), 0), n, FN(vector)(at, FN(BIAS_C), 0));
    return FN(activation)(at, 3 * s->gates - 1) * FN(v_tanh)(y);
}
INLINE void FN(normalised_set_h)(FN(spot) at, FN(norms) * s) {
    FN(set_h)(at, FN(normalised_h)(at, s, FN(next_c)(at)));
}
INLINE void FN(normalised_set_extra)(FN(spot) at, FN(norms) * s) {
    FN(set_extra)(at, FN(normalised_h)(at, s, FN(next_c)(at)));
}
INLINE void FN(normalised_rows)(const fr_frame *f, int gates, void (*set)(FN(spot), FN(norms) *)) {
    for (fr_index row = 0; row < f->rows; row++) {
        FN(norms) s;
        memset(&s, 0, sizeof s);
        s.gates = gates;
        FN(measure_products)(f, row, &s);
        FN(for_each_of_row)(f, row, FN(normalised_state), &s);
        FN(set_mean)(&s.c, f->units);
        FN(for_each_of_row)(f, row, FN(square_next), &s);
        FN(set_scale)(&s.c, f->units);
        FN(for_each_of_row)(f, row, set, &s);
    }
}
static void FN(normalised_forward)(const fr_frame *f) {
    FN(normalised_rows)(f, 4, FN(normalised_set_h));
}
static void FN(normalised_gates_forward)(const fr_frame *f) {
    FN(normalised_rows)(f, 4, FN(normalised_set_extra));
}
static void FN(coupled_normalised_forward)(const fr_frame *f) {
    FN(normalised_rows)(f, 3, FN(normalised_set_h));
}
static void FN(coupled_normalised_gates_forward)(const fr_frame *f) {
    FN(normalised_rows)(f, 3, FN(normalised_set_extra));
}

/* The adjoint of x -> normal(x) for the gradient y of it: scale (y - mean(y) - n mean(y n)). */
INLINE V FN(normal_adjoint)(V y, V n, V scale, V sum, V product, fr_index count) {
    const V share = v_set1(1 / (real)count);
    return scale * (y - sum * share - n * product * share);
}

/* Computes c' again, as in the forward step. */
INLINE V FN(same_c)(FN(spot) at, const FN(norms) * s) {
    return FN(bounded)(at, FN(unbounded_state)(at, s->gates, 2 * s->gates));
}
INLINE void FN(sum_same)(FN(spot) at, FN(norms) * s) { s->c.sum += FN(same_c)(at, s); }
INLINE void FN(square_same)(FN(spot) at, FN(norms) * s) {
    s->c.sum += FN(square)(at, FN(same_c)(at, s), &s->c);
}
/* Gradient of the normalised c'; sets that of its gain and bias and of the argument of o. */
INLINE V FN(d_normal_c)(FN(spot) at, const FN(norms) * s, V d_h, V *d_gain, V *d_bias, V *d_o) {
    const V one = v_set1(1), gain = FN(vector)(at, FN(GAIN_C), 0);
    const V n = FN(normal)(FN(same_c)(at, s), &s->c), o = FN(activation)(at, 3 * s->gates - 1);
    const V t = FN(v_tanh)(v_fma(gain, n, FN(vector)(at, FN(BIAS_C), 0)));
    *d_o = d_h * t * o * (one - o);
    *d_bias = d_h * o * (one - t * t);
    *d_gain = *d_bias * n;
    return *d_bias * gain;
}
INLINE void FN(sum_d_c)(FN(spot) at, FN(norms) * s, V d_h) {
    V d_gain, d_bias, d_o;
    const V y = FN(d_normal_c)(at, s, d_h, &d_gain, &d_bias, &d_o);
    s->c_sum += y;
    s->c_product += y * FN(normal)(FN(same_c)(at, s), &s->c);
}
INLINE void FN(gates_adjoint_of_row)(FN(spot) at, FN(norms) * s, V d_h) {
    V d_gain, d_bias, d_o;
    const V y = FN(d_normal_c)(at, s, d_h, &d_gain, &d_bias, &d_o);
    const V n = FN(normal)(FN(same_c)(at, s), &s->c);
    const V d_c = FN(normal_adjoint)(y, n, s->c.scale, s->c_sum, s->c_product, at.frame->units);
    FN(add_d_vector)(at, FN(GAIN_C), 0, d_gain);
    FN(add_d_vector)(at, FN(BIAS_C), 0, d_bias);
    FN(variant_state_adjoint)(at, s->gates, 2 * s->gates, d_o, d_c + FN(d_next)(at, 1));
    for (int k = 0; k < s->gates; k++) {
        const V d_z = FN(activation)(at, 2 * s->gates + k);
        const V ih = FN(normal)(FN(activation)(at, k), &s->ih);
        const V hh = FN(normal)(FN(activation)(at, s->gates + k), &s->hh);
        const V d_ih = d_z * FN(vector)(at, FN(GAIN_IH), k);
        const V d_hh = d_z * FN(vector)(at, FN(GAIN_HH), k);
        FN(add_d_vector)(at, FN(BIAS), k, d_z);
        FN(add_d_vector)(at, FN(GAIN_IH), k, d_z * ih);
        FN(add_d_vector)(at, FN(GAIN_HH), k, d_z * hh);
        s->ih_sum += d_ih;
        s->ih_product += d_ih * ih;
        s->hh_sum += d_hh;
        s->hh_product += d_hh * hh;
    }
}
INLINE void FN(products_adjoint)(FN(spot) at, FN(norms) * s) {
    for (int k = 0; k < s->gates; k++) {
        const V d_z = FN(activation)(at, 2 * s->gates + k);
        const V ih = FN(normal)(FN(activation)(at, k), &s->ih);
        const V hh = FN(normal)(FN(activation)(at, s->gates + k), &s->hh);
        FN(set_gate)(at, k,
                     FN(normal_adjoint)(d_z * FN(vector)(at, FN(GAIN_IH), k), ih, s->ih.scale,
                                        s->ih_sum, s->ih_product, s->gates * at.frame->units));
        FN(set_gate)(at, s->gates + k,
                     FN(normal_adjoint)(d_z * FN(vector)(at, FN(GAIN_HH), k), hh, s->hh.scale,
                                        s->hh_sum, s->hh_product, s->gates * at.frame->units));
    }
}

INLINE void FN(sum_d_c_of_h)(FN(spot) at, FN(norms) * s) { FN(sum_d_c)(at, s, FN(d_h)(at)); }
INLINE void FN(sum_d_c_of_extra)(FN(spot) at, FN(norms) * s) {
    FN(sum_d_c)(at, s, FN(d_extra)(at));
}
INLINE void FN(gates_adjoint_of_h)(FN(spot) at, FN(norms) * s) {
    FN(gates_adjoint_of_row)(at, s, FN(d_h)(at));
}
INLINE void FN(gates_adjoint_of_extra)(FN(spot) at, FN(norms) * s) {
    FN(gates_adjoint_of_row)(at, s, FN(d_extra)(at));
}
INLINE void FN(normalised_rows_adjoint)(const fr_frame *f, int gates,
                                        void (*sum)(FN(spot), FN(norms) *),
                                        void (*adjoint)(FN(spot), FN(norms) *)) {
    for (fr_index row = 0; row < f->rows; row++) {
        FN(norms) s;
        memset(&s, 0, sizeof s);
        s.gates = gates;
        FN(measure_products)(f, row, &s);
        FN(for_each_of_row)(f, row, FN(sum_same), &s);
        FN(set_mean)(&s.c, f->units);
        FN(for_each_of_row)(f, row, FN(square_same), &s);
        FN(set_scale)(&s.c, f->units);
        FN(for_each_of_row)(f, row, sum, &s);
        s.c_sum = v_set1(v_sum(s.c_sum));
        s.c_product = v_set1(v_sum(s.c_product));
        FN(for_each_of_row)(f, row, adjoint, &s);
        s.ih_sum = v_set1(v_sum(s.ih_sum));
        s.ih_product = v_set1(v_sum(s.ih_product));
        s.hh_sum = v_set1(v_sum(s.hh_sum));
        s.hh_product = v_set1(v_sum(s.hh_product));
        FN(for_each_of_row)(f, row, FN(products_adjoint), &s);
    }
}
static void FN(normalised_adjoint)(const fr_frame *f) {
    FN(normalised_rows_adjoint)(f, 4, FN(sum_d_c_of_h), FN(gates_adjoint_of_h));
}
static void FN(normalised_gates_adjoint)(const fr_frame *f) {
    FN(normalised_rows_adjoint)(f, 4, FN(sum_d_c_of_extra), FN(gates_adjoint_of_extra));
}
static void FN(coupled_normalised_adjoint)(const fr_frame *f) {
    FN(normalised_rows_adjoint)(f, 3, FN(sum_d_c_of_h), FN(gates_adjoint_of_h));
}
static void FN(coupled_normalised_gates_adjoint)(const fr_frame *f) {
    FN(normalised_rows_adjoint)(f, 3, FN(sum_d_c_of_extra), FN(gates_adjoint_of_extra));
}

static void FN(normalised_projection_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 12, FN(projection_forward_at));
}
static void FN(normalised_projection_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 12, FN(projection_adjoint_at));
}
static void FN(coupled_normalised_projection_forward)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 9, FN(projection_forward_at));
}
static void FN(coupled_normalised_projection_adjoint)(const fr_frame *f) {
    FN(for_each_vector_with)(f, 9, FN(projection_adjoint_at));
}

/* clang-format off */
#define PEEPHOLE_VECTORS {{"peephole", 3}}
#define COUPLED_VECTORS {{"peephole", 2}}
#define NORMALISED_VECTORS                                                                         \
    {{"peephole", 3}, {"gain_ih", 4}, {"gain_hh", 4}, {"bias", 4}, {"gain_c", 1}, {"bias_c", 1}}
#define COUPLED_NORMALISED_VECTORS                                                                 \
    {{"peephole", 2}, {"gain_ih", 3}, {"gain_hh", 3}, {"bias", 3}, {"gain_c", 1}, {"bias_c", 1}}
#define PEEPHOLE_STAGE FR_OPERAND_H, FR_WEIGHT_HH, 0, 4, {0, 1, 2, 3}
#define COUPLED_STAGE FR_OPERAND_H, FR_WEIGHT_HH, 0, 3, {0, 1, 2}
#define NORMALISED_STAGE FR_OPERAND_H, FR_WEIGHT_HH, 0, 4, {4, 5, 6, 7}
#define COUPLED_NORMALISED_STAGE FR_OPERAND_H, FR_WEIGHT_HH, 0, 3, {3, 4, 5}
#define PROJECTION_STAGE FR_OPERAND_EXTRA, FR_WEIGHT_HR, 0, 1
#define LSTM_VARIANTS                                                                              \
    {.name = "lstm_peephole", .states = 2, .gates = 4, .slots = 4, .stages = 1,                    \
     .stage = {{PEEPHOLE_STAGE, FN(peephole_forward), FN(peephole_adjoint)}},                      \
     .vector = PEEPHOLE_VECTORS},                                                                  \
    {.name = "lstm_peephole_projected", .states = 2, .gates = 4, .slots = 5, .stages = 2,          \
     .stage = {{PEEPHOLE_STAGE, FN(peephole_gates_forward), FN(peephole_gates_adjoint)},           \
               {PROJECTION_STAGE, {4}, FN(projection_forward), FN(projection_adjoint)}},           \
     .vector = PEEPHOLE_VECTORS},                                                                  \
    {.name = "lstm_coupled", .states = 2, .gates = 3, .slots = 3, .stages = 1,                     \
     .stage = {{COUPLED_STAGE, FN(coupled_forward), FN(coupled_adjoint)}},                         \
     .vector = COUPLED_VECTORS},                                                                   \
    {.name = "lstm_coupled_projected", .states = 2, .gates = 3, .slots = 4, .stages = 2,           \
     .stage = {{COUPLED_STAGE, FN(coupled_gates_forward), FN(coupled_gates_adjoint)},              \
               {PROJECTION_STAGE, {3}, FN(coupled_projection_forward),                             \
                FN(coupled_projection_adjoint)}},                                                  \
     .vector = COUPLED_VECTORS},                                                                   \
    {.name = "lstm_normalised", .states = 2, .gates = 4, .slots = 12, .stages = 1,                 \
     .whole_rows = 1,                                                                              \
     .stage = {{NORMALISED_STAGE, FN(normalised_forward), FN(normalised_adjoint)}},                \
     .vector = NORMALISED_VECTORS},                                                                \
    {.name = "lstm_normalised_projected", .states = 2, .gates = 4, .slots = 13, .stages = 2,       \
     .whole_rows = 1,                                                                              \
     .stage = {{NORMALISED_STAGE, FN(normalised_gates_forward), FN(normalised_gates_adjoint)},     \
               {PROJECTION_STAGE, {12}, FN(normalised_projection_forward),                         \
                FN(normalised_projection_adjoint)}},                                               \
     .vector = NORMALISED_VECTORS},                                                                \
    {.name = "lstm_coupled_normalised", .states = 2, .gates = 3, .slots = 9, .stages = 1,          \
     .whole_rows = 1,                                                                              \
     .stage = {{COUPLED_NORMALISED_STAGE, FN(coupled_normalised_forward),                          \
                FN(coupled_normalised_adjoint)}},                                                  \
     .vector = COUPLED_NORMALISED_VECTORS},                                                        \
    {.name = "lstm_coupled_normalised_projected", .states = 2, .gates = 3, .slots = 10,            \
     .stages = 2, .whole_rows = 1,                                                                 \
     .stage = {{COUPLED_NORMALISED_STAGE, FN(coupled_normalised_gates_forward),                    \
                FN(coupled_normalised_gates_adjoint)},                                             \
               {PROJECTION_STAGE, {9}, FN(coupled_normalised_projection_forward),                  \
                FN(coupled_normalised_projection_adjoint)}},                                       \
     .vector = COUPLED_NORMALISED_VECTORS},
/* clang-format on */
