"""Fits choices: which of several candidates, or classes, is the right one.

    P(choice) = softmax of scores, which are linear in the weights to learn
    loss      = - sum over rows of log P(right choice) + 1/2 sum of pull * weight ** 2

It is a regularised multinomial logistic regression, with numpy alone. A label may be a probability. The same
input gives the same weights.

    design = Classes(features, 3)                     # features: (n, f)
    weights = Estimator(pull=0.5).fit(design, labels) # labels: (n, 3), each row sums to 1
    chances = softmax(design.scores(weights))         # (n, 3)

In the shapes, n counts the rows, k the classes or the candidates of a row, f the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classes:
    """Rows that each belong to a class: each class has weights of its own for the same features.

    ``size``, ``scores`` and ``gradient`` are what ``Estimator`` calls of a design. The flat weights are those
    of the first feature for all classes, then of the second: ``weights.reshape(f, k)``.
    """

    features: Floats
    """(n, f)"""
    classes: int
    """k"""

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.features.shape[1] * self.classes

    def scores(self, weights: Floats) -> Floats:
        """Return the scores of the classes for each row, (n, k)."""
        return self.features @ weights.reshape(-1, self.classes)

    def gradient(self, errors: Floats) -> Floats:
        """Return the gradient of the loss, (size,), from its derivatives by the scores, ``errors`` (n, k)."""
        return (self.features.T @ errors).ravel()


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of candidates, which share their weights, (f,); methods as in ``Classes``."""

    rows: Floats
    """Features of each candidate, (n, k, f). k is the longest list's length; shorter ones are padded."""
    is_there: NDArray[np.bool_]
    """(n, k): False for padding, whose score is minus infinity."""

    @property
    def size(self) -> int:
        return self.rows.shape[2]

    def scores(self, weights: Floats) -> Floats:
        return np.where(self.is_there, self.rows @ weights, -np.inf)

    def gradient(self, errors: Floats) -> Floats:
        return np.tensordot(errors, self.rows, axes=2)


@dataclass(frozen=True, slots=True)
class Estimator:
    """Fits weights with Adam (Kingma and Ba, 2015, with its default decay of moments, 0.9 and 0.999).

    ``pull``: strength of the pull towards 0, one number or one for each weight, (size,); 0 for a bias.
    ``rate``: Adam's step size; over the last third of the steps it falls linearly to about 0.
    """

    pull: Floats | float
    steps: int = 400
    rate: float = 0.05

    def fit(self, design: Classes | Lists, labels: Floats) -> Floats:
        """Return the weights, (size,). ``labels``: probability of each choice, (n, k)."""
        weights, mean, mean_square = np.zeros((3, design.size))
        for step in range(1, self.steps + 1):
            slope = self.slope(design, labels, weights)
            mean = 0.9 * mean + 0.1 * slope
            mean_square = 0.999 * mean_square + 0.001 * slope**2
            rate = self.rate * min(1.0, 3.0 * (1 - step / (self.steps + 1)))
            move = rate * (mean / (1 - 0.9**step)) / (np.sqrt(mean_square / (1 - 0.999**step)) + 1e-8)
            weights -= move
        return weights

    def slope(self, design: Classes | Lists, labels: Floats, weights: Floats) -> Floats:
        """Return the gradient of the loss."""
        chance = softmax(design.scores(weights))
        errors = chance * labels.sum(axis=1, keepdims=True) - labels
        return design.gradient(errors) + self.pull * weights


def softmax(scores: Floats) -> Floats:
    """Return probabilities that sum to 1 in each row. The largest score is taken off first: exp overflows."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
