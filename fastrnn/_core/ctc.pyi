import numpy as np

def ctc(
    logits: np.ndarray,
    lengths: np.ndarray,
    targets: np.ndarray,
    target_lengths: np.ndarray,
    blank: int,
    weights: np.ndarray,
    d_logits: np.ndarray,
) -> np.ndarray: ...
