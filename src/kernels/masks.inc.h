/* What dropout and zoneout do to rows of states, of whatever cell. */

static void FN(mask)(const fr_masked *m) {
    for (fr_index row = 0; row < m->rows; row++) {
        const real *x = (const real *)m->x + row * m->x_row;
        const real *mask = (const real *)m->mask + row * m->mask_row;
        real *y = (real *)m->y + row * m->y_row;
        for (fr_index i = 0; i < m->cols; i += V_WIDTH) {
            const fr_index n = m->cols - i < V_WIDTH ? m->cols - i : V_WIDTH;
            const V v = FN(load)(x + i, n) * FN(load)(mask + i, n);
            FN(store_or_add)(y + i, v, n, m->accumulate);
        }
    }
}

static void FN(zoneout)(const fr_zoneout *z) {
    for (fr_index row = 0; row < z->rows; row++) {
        const real *mask = (const real *)z->mask + row * z->mask_row;
        const real *state = (const real *)z->state + row * z->state_row;
        real *next = (real *)z->next + row * z->next_row;
        real *out = z->out ? (real *)z->out + row * z->out_row : NULL;
        for (fr_index i = 0; i < z->cols; i += V_WIDTH) {
            const fr_index n = z->cols - i < V_WIDTH ? z->cols - i : V_WIDTH;
            const V keep = FN(load)(mask + i, n), fresh = FN(load)(next + i, n);
            const V old = FN(load)(state + i, n);
            /* Two products, so that a state that is kept is so to the bit. */
            const V v = v_fma(keep, old, (v_set1(1) - keep) * fresh);
            FN(store)(next + i, v, n);
            if (out) FN(store)(out + i, v, n);
        }
    }
}

static void FN(zoneout_adjoint)(const fr_zoneout *z) {
    for (fr_index row = 0; row < z->rows; row++) {
        const real *mask = (const real *)z->mask + row * z->mask_row;
        const real *d_out = z->out ? (const real *)z->out + row * z->out_row : NULL;
        real *state = (real *)z->state + row * z->state_row;
        real *next = (real *)z->next + row * z->next_row;
        for (fr_index i = 0; i < z->cols; i += V_WIDTH) {
            const fr_index n = z->cols - i < V_WIDTH ? z->cols - i : V_WIDTH;
            const V keep = FN(load)(mask + i, n);
            V d = FN(load)(next + i, n);
            if (d_out) d += FN(load)(d_out + i, n);
            FN(store)(state + i, keep * d, n);
            FN(store)(next + i, (v_set1(1) - keep) * d, n);
        }
    }
}
