import numpy as np

def affine(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray: ...
def affine_adjoint(
    d_y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    d_weight: np.ndarray,
    d_bias: np.ndarray | None,
) -> np.ndarray: ...
def softmax_cross_entropy(logits: np.ndarray, ids: np.ndarray) -> tuple[float, np.ndarray]: ...
def norm(x: np.ndarray) -> float: ...
def sgd(
    values: np.ndarray,
    gradients: np.ndarray,
    momentum_buffer: np.ndarray | None,
    *,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None: ...
def adam(
    values: np.ndarray,
    gradients: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
) -> None: ...
