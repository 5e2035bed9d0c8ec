"""Fits choices: which of several candidates, or classes, is the right one.

    P(choice) = softmax of scores, which are linear in the weights to learn
    loss      = - sum over rows of log P(right choice) + 1/2 sum of pull * weight ** 2

It is a regularised multinomial logistic regression, with numpy alone. A label may be a probability. The same
input gives the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classes:
    """Rows that each belong to a class: each class has weights of its own for the same features."""

    features: Floats
    """(n, f)"""
    classes: int

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.features.shape[1] * self.classes

    def scores(self, weights: Floats) -> Floats:
        """Return scores, (n, k)."""
        return self.features @ weights.reshape(-1, self.classes)

    def gradient(self, errors: Floats) -> Floats:
        """Return the sum over rows and choices of errors (n, k) times the slopes of the scores, (size,)."""
        return (self.features.T @ errors).ravel()


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of candidates, which share their weights; see ``Classes``."""

    rows: Floats
    """(n, k, f); shorter lists are filled up."""
    is_there: NDArray[np.bool_]
    """(n, k)"""

    @property
    def size(self) -> int:
        return self.rows.shape[2]

    def scores(self, weights: Floats) -> Floats:
        return np.where(self.is_there, self.rows @ weights, -np.inf)

    def gradient(self, errors: Floats) -> Floats:
        return np.tensordot(errors, self.rows, axes=2)


@dataclass(frozen=True, slots=True)
class Estimator:
    """``pull``: strength of the pull towards 0, of each weight or of all. ``steps`` and ``rate`` are Adam's;
    the last third of the steps grows smaller."""

    pull: Floats | float
    steps: int = 400
    rate: float = 0.05

    def fit(self, design: Classes | Lists, labels: Floats) -> Floats:
        """Return the weights, (size,)."""
        weights, mean, square = np.zeros((3, design.size))
        for step in range(1, self.steps + 1):
            slope = self.slope(design, labels, weights)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * slope**2
            rate = self.rate * min(1.0, 3.0 * (1 - step / (self.steps + 1)))
            move = rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
            weights -= move
        return weights

    def slope(self, design: Classes | Lists, labels: Floats, weights: Floats) -> Floats:
        """Return the gradient of the loss."""
        chance = softmax(design.scores(weights))
        errors = chance * labels.sum(axis=1, keepdims=True) - labels
        return design.gradient(errors) + self.pull * weights


def softmax(scores: Floats) -> Floats:
    """Return probabilities that sum to 1 in each row."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
