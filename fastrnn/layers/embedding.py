"""The table of vectors that ids are looked up in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._validation import check_array, check_dtype, check_ids, check_positive_int, check_seed
from fastrnn.layers.base import Module, Pullback
from fastrnn.parameters import Parameters

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike


class Embedding(Module):
    """A vector for each id: ``output[...] = weight[ids[...]]``.

    Parameters
    ----------
    num_embeddings : int
        Number of ids, 0 to ``num_embeddings - 1``.
    embedding_dim : int
        Size of a vector.
    dtype : {"float32", "float64"}
    seed : int, numpy.random.Generator or None
        Source of the initial parameters, standard normal.

    Attributes
    ----------
    parameters : Parameters
        ``weight`` (num_embeddings, embedding_dim).

    Raises
    ------
    ValueError, TypeError
        If an argument has the wrong type or is out of range.

    References
    ----------
    ``torch.nn.Embedding``, whose names, shape and initial distribution these are.
    """

    _fixed = frozenset({"num_embeddings", "embedding_dim", "dtype"})

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        dtype: DTypeLike = "float32",
        seed: Any = None,
    ) -> None:
        self.num_embeddings = check_positive_int("num_embeddings", num_embeddings)
        self.embedding_dim = check_positive_int("embedding_dim", embedding_dim)
        self.dtype = check_dtype(dtype)
        shape = (self.num_embeddings, self.embedding_dim)
        generator = check_seed(seed)
        self.parameters = Parameters({"weight": shape}, self.dtype)
        self.parameters["weight"][...] = generator.standard_normal(shape)

    def __call__(self, ids: ArrayLike) -> np.ndarray:
        """Return the vectors (..., embedding_dim) of integer `ids` (...).

        Raises
        ------
        ValueError
            If an id is outside 0 to ``num_embeddings - 1``.
        TypeError
            If the ids are not integers.
        """
        return self._look_up(check_ids("ids", ids, self.num_embeddings))

    def vjp(self, ids: ArrayLike) -> tuple[np.ndarray, Pullback]:
        """Return the vectors and their pullback.

        Parameters
        ----------
        ids : array_like of int, shape (...)

        Returns
        -------
        output : ndarray, shape (..., embedding_dim)
        pullback : callable
            ``pullback(d_output)`` adds the gradient of the table and returns None: ids have none.
            Terms of one id are added one by one, as in PyTorch: in float32 the relative rounding
            error may reach 1e-4 for 1e5 terms and 1e-2 for 1e6.

        Raises
        ------
        ValueError, TypeError
            As for a call; the pullback for another shape or type.
        """
        ids = check_ids("ids", ids, self.num_embeddings)

        def adjoint(d_output: ArrayLike) -> None:
            shape = (*ids.shape, self.embedding_dim)
            d_rows = check_array("d_output", d_output, self.dtype, shape)
            add_rows(self.gradients["weight"], ids.ravel(), d_rows.reshape(-1, self.embedding_dim))

        return self._look_up(ids), Pullback(adjoint)

    def _look_up(self, ids: np.ndarray) -> np.ndarray:
        return self.parameters["weight"].take(ids, axis=0)  # a third of the time of weight[ids]


def add_rows(table: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> None:
    """Add each row to the table's row of its id: ``table[ids[n]] += rows[n]`` for every n.

    Parameters
    ----------
    table : ndarray, shape (V, E), changed
    ids : ndarray of int, shape (N,)
        May repeat.
    rows : ndarray, shape (N, E)
    """
    # A short batch from a large vocabulary does not walk the whole table: for 40 ids of 10 000 and
    # E = 512 that takes 0.11 ms in place of 2 ms, for 12 500 of 50 000 and E = 256 3.7 in place of
    # 9.4. To sort them costs more where the table is small. Of 162 sizes, 65 to 50 000 vectors of
    # 16 to 256 and 2 to 300 times as many as ids, this takes 1.03 times the better of both (mean).
    if table.size > 4 * rows.size + 400_000:
        ids, positions = np.unique(ids, return_inverse=True)
        table[ids] += _sum_by_id(len(ids), positions, rows)
    else:
        table += _sum_by_id(len(table), ids, rows)


def _sum_by_id(count: int, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (count, E), each row the sum of the `rows` (N, E) of that id."""
    from scipy.sparse import csc_array  # here, since it takes as long to import as all the rest

    # The transposed one-hot matrix in SciPy's sparse columns, one entry a column. For (2500, 128)
    # float32 rows and 65 ids on one core this takes 0.08 ms, np.add.at 3.3 ms, the dense
    # one-hot product 0.57 ms, sort and np.add.reduceat 0.73 ms.
    one_hot = csc_array(
        (np.ones(len(ids), rows.dtype), ids, np.arange(len(ids) + 1)), shape=(count, len(ids))
    )
    return one_hot @ rows
