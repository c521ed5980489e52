"""Work: what a device task computes or moves, as far as the trace tells."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class WorkKind(IntEnum):
    """The kind of a device task's work, by the operator that launched it."""

    OTHER = 0
    GEMM = 1
    ATTENTION = 2
    CONVOLUTION = 3
    NORMALIZATION = 4
    ELEMENTWISE = 5
    REDUCTION = 6
    EMBEDDING = 7
    OPTIMIZER = 8
    COPY = 9
    SET = 10
    COLLECTIVE = 11


@dataclass(frozen=True)
class Gemm:
    """`batch` products of an (m, k) with a (k, n) matrix."""

    batch: int
    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k


@dataclass(frozen=True)
class Work:
    """One distinct piece of work; None or empty where the trace does not tell.

    `operator` is the innermost operator around the launch, `shapes` and `dtypes` those of its
    inputs in order, `bytes` what a copy, set or collective moves.
    """

    kind: WorkKind
    operator: str
    shapes: tuple[tuple[int, ...], ...] = ()
    dtypes: tuple[str, ...] = ()
    gemm: Gemm | None = None
    bytes: int | None = None


class Phase(IntEnum):
    """The part of a training step that a row belongs to."""

    UNKNOWN = 0
    FORWARD = 1
    BACKWARD = 2
    OPTIMIZER = 3
