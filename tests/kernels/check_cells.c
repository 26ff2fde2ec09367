/* The pointwise functions of every cell. Scalar float64 code is the model, whose forward step
 * tests/test_backends.py compares with NumPy's: every forward step must agree with it, and every
 * adjoint with its central differences. */
#include "selftest.h"

#include <float.h>
#include <math.h>
#include <string.h>

extern const fr_kernels *const fr_kernels_scalar[2];

enum { ROWS = 3, MOST_UNITS = 35, STATES = FR_MAX_SLOTS, INPUTS = STATES + FR_MAX_STATES };

typedef double plane[ROWS][MOST_UNITS];

/* inputs: pre-activations of the slots, from STATES on the states. */
typedef struct {
    plane inputs[INPUTS], next[FR_MAX_STATES], d_next[FR_MAX_STATES], d_inputs[INPUTS];
} step;

/* Stands for the product before a second stage. */
static const double WEIGHT = 0.75;

/* A number of a cell's own parameters. */
static double vector_element(int which, int block, fr_index j) {
    return (double)((which + block + j) % 5 - 2) / 4;
}

/* One step by the kernels K, with its adjoint if `keep`; `bare` omits what a frame may lack. */
static void run(const fr_cell *cell, fr_index units, int bare, int keep, step *s) {
    const int slots = cell->slots;
    const matrix gates = new_matrix(ROWS * slots, units), bias = new_matrix(slots, units);
    const matrix extra = new_matrix(ROWS, units), d_extra = new_matrix(ROWS, units);
    const matrix out = new_matrix(ROWS, units), d_out = new_matrix(ROWS, units);
    /* A row that is normalised has its own bias. */
    const int biased = !bare && !cell->whole_rows;
    matrix state[FR_MAX_STATES], next[FR_MAX_STATES], d_state[FR_MAX_STATES];
    fr_frame f = {.rows = ROWS,
                  .units = units,
                  .gates = gates.data,
                  .gates_row = slots * gates.row,
                  .gates_slot = gates.row,
                  .bias = biased ? bias.data : NULL,
                  .bias_slot = bias.row,
                  .out = bare ? NULL : out.data,
                  .out_row = out.row,
                  .extra = extra.data,
                  .extra_row = extra.row,
                  .d_out = bare ? NULL : d_out.data,
                  .d_out_row = d_out.row,
                  .d_extra = d_extra.data,
                  .d_extra_row = d_extra.row,
                  .vector_slot = units + 1,
                  .cell_clip = INFINITY, /* its kink has no central difference; Python tests it */
                  .keep = keep};
    for (int v = 0; v < FR_MAX_VECTORS && cell->vector[v].name; v++) {
        const matrix vector = new_matrix(cell->vector[v].blocks, units);
        const matrix d_vector = new_matrix(cell->vector[v].blocks, units);
        for (int block = 0; block < cell->vector[v].blocks; block++)
            for (fr_index j = 0; j < units; j++) {
                set(vector, block, j, vector_element(v, block, j));
                set(d_vector, block, j, 0);
            }
        f.vector[v] = vector.data;
        f.d_vector[v] = d_vector.data;
    }
    for (int n = 0; n < cell->states; n++) {
        state[n] = new_matrix(ROWS, units);
        next[n] = new_matrix(ROWS, units);
        d_state[n] = new_matrix(ROWS, units);
        f.state[n] = state[n].data;
        f.next[n] = next[n].data;
        f.d_state[n] = d_state[n].data;
        f.state_row[n] = f.next_row[n] = f.d_state_row[n] = units + 1;
    }
    for (fr_index i = 0; i < ROWS; i++)
        for (fr_index j = 0; j < units; j++) {
            for (int g = 0; g < slots; g++) {
                /* The product of a projection has no bias. */
                const int projected = cell->stages > 1 && cell->stage[1].weight == FR_WEIGHT_HR;
                const int product = projected && g == cell->stage[1].slot[0];
                const double b = biased && !product ? (double)((g + j) % 5 - 2) : 0;
                set(bias, g, j, b);
                set(gates, i * slots + g, j, s->inputs[g][i][j] - b);
            }
            for (int n = 0; n < cell->states; n++) {
                set(state[n], i, j, s->inputs[STATES + n][i][j]);
                set(d_state[n], i, j, s->d_next[n][i][j]);
            }
            set(d_out, i, j, s->d_next[0][i][j] / 4);
            if (!bare) set(d_state[0], i, j, s->d_next[0][i][j] * 3 / 4);
        }

    for (int k = 0; k < cell->stages; k++) {
        const int slot = cell->stage[k].slot[0];
        for (fr_index i = 0; k > 0 && i < ROWS; i++)
            for (fr_index j = 0; j < units; j++)
                add(gates, i * slots + slot, j, WEIGHT * at(extra, i, j));
        cell->stage[k].forward(&f);
    }
    for (int k = cell->stages - 1; keep && k >= 0; k--) {
        const int slot = cell->stage[k].slot[0];
        cell->stage[k].adjoint(&f);
        for (fr_index i = 0; k > 0 && i < ROWS; i++)
            for (fr_index j = 0; j < units; j++)
                set(d_extra, i, j, WEIGHT * at(gates, i * slots + slot, j));
    }

    expect(bare || same_bits(out, next[0], ROWS), "%s: h differs in two places", cell->name);
    int untouched = gaps_untouched(gates) & gaps_untouched(extra);
    for (int n = 0; n < cell->states; n++)
        untouched &= gaps_untouched(next[n]) & gaps_untouched(d_state[n]);
    expect(untouched, "%s of %td units writes outside", cell->name, units);
    for (fr_index i = 0; i < ROWS; i++)
        for (fr_index j = 0; j < units; j++) {
            for (int g = 0; g < slots; g++) s->d_inputs[g][i][j] = at(gates, i * slots + g, j);
            for (int n = 0; n < cell->states; n++) {
                s->next[n][i][j] = at(next[n], i, j);
                s->d_inputs[STATES + n][i][j] = at(d_state[n], i, j);
            }
        }
    free_matrices(0);
}

/* A step with a unit of one input moved in each row, by the model. */
static step moved(const fr_cell *cell, fr_index units, step s, int input, fr_index unit,
                  double by) {
    for (fr_index i = 0; i < ROWS; i++) s.inputs[input][i][unit] += by;
    run(cell, units, 1, 0, &s);
    return s;
}

/* The adjoint that was run against central differences of the model. Units of a row may depend on
 * each other, so they are moved one after the other. */
static void check_adjoint(const fr_cell *cell, fr_index units, const step *s, int input,
                          double *worst) {
    const double h = 1e-5;
    for (fr_index unit = 0; unit < units; unit++) {
        const step low = moved(cell, units, *s, input, unit, -h);
        const step high = moved(cell, units, *s, input, unit, h);
        for (fr_index i = 0; i < ROWS; i++) {
            double slope = 0;
            for (int n = 0; n < cell->states; n++)
                for (fr_index j = 0; j < units; j++)
                    slope += s->d_next[n][i][j] * (high.next[n][i][j] - low.next[n][i][j]);
            grow(worst, s->d_inputs[input][i][unit], slope / (2 * h));
        }
    }
}

static void check_cell(int which, fr_index units, int bare, double worst[2]) {
    const fr_kernels *tested = K, *model = fr_kernels_scalar[1];
    const fr_cell *cell = &tested->cells[which], *model_cell = &model->cells[which];
    step s = {0};
    /* The elements of a short row might be almost equal: to divide by their deviation would then make
     * more of their rounding. So they are set apart. */
    const int is_short = cell->whole_rows && units < 7;
    const double apart = is_short ? 6 : 0;
    for (fr_index i = 0; i < ROWS; i++)
        for (fr_index j = 0; j < units; j++) {
            for (int n = 0; n < INPUTS; n++) s.inputs[n][i][j] = real_number() + apart * (double)j;
            for (int n = 0; n < cell->states; n++) s.d_next[n][i][j] = real_number();
        }
    step plain = s;
    run(cell, units, bare, 0, &plain);
    run(cell, units, bare, 1, &s);
    expect(memcmp(plain.next, s.next, sizeof s.next) == 0, "%s depends on keep", cell->name);

    K = model;
    run(model_cell, units, 1, 0, &plain);
    for (int input = 0; input < STATES + cell->states; input++) {
        const int direct = input != STATES || cell->d_state_direct;
        /* A cell that normalises its products puts what it makes of them into further slots. */
        const int made = cell->whole_rows && input >= 2 * cell->gates && input < 3 * cell->gates;
        /* The norm of a short row bends too sharply for differences. */
        if (direct && !made && !is_short && (input < cell->slots || input >= STATES))
            check_adjoint(model_cell, units, &s, input, &worst[1]);
    }
    for (int n = 0; n < cell->states; n++)
        for (fr_index i = 0; i < ROWS; i++)
            for (fr_index j = 0; j < units; j++)
                grow(&worst[0], s.next[n][i][j], plain.next[n][i][j]);
    K = tested;
}

void check_cells(double worst[2]) {
    static const fr_index units[] = {1, 2, 3, 7, 8, 17, MOST_UNITS};
    const double eps = K->item_size == 4 ? FLT_EPSILON : DBL_EPSILON;
    for (int which = 0; K->cells[which].name; which++)
        for (size_t u = 0; u < sizeof units / sizeof *units; u++)
            for (int bare = 0; bare < 2; bare++) check_cell(which, units[u], bare, worst);
    expect(worst[0] <= 8 * eps, "a forward step is off by %.1e", worst[0]);
    /* Central differences of float64 numbers are good to 1e-10 themselves. */
    expect(worst[1] <= 16 * eps + 1e-9, "an adjoint step is off by %.1e", worst[1]);
}
