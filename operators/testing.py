"""What every linear operator promises, as one function: `check(A)`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import LinearOperator
from .tensors import inner

# relative to ‖Ax‖‖y‖, and to max|A| entry by entry: rounding of sums of some thousand terms
_TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
_ENTRYWISE = {torch.float32: 1e-5, torch.float64: 1e-12}
_DENSE = 4_000_000


Apply = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Report:
    """What `check` measured, worst of both precisions, as a fraction of what each allows.

    adjoint    |⟨Ax, y⟩ − ⟨x, A*y⟩| / ‖Ax‖‖y‖
    entries    max|A − (A*)*| / max|A|; None where A is too large to write down
    gradient   ‖∇ − A*g‖ / ‖A*g‖
    norm       A.norm()
    largest    the largest singular value, None where A is too large
    """

    adjoint: float
    entries: float | None
    gradient: float
    norm: float
    largest: float | None


def check(
    A: LinearOperator,
    seed: int = 0,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    complex_input: bool = False,
    device: torch.device | str | None = None,
) -> Report:
    """Check that A keeps the promises of `LinearOperator`, each in float32 and float64.

    Adjoint (signed random vectors, and entry by entry up to four million entries), linearity, gradient,
    second derivatives, forward mode, vmap, leading batches, norm, shape errors, purity.

    A              any linear operator
    seed           of the random vectors
    dtypes         precisions to check; leave out one that a backend lacks
    complex_input  also try complex images (those of operators that make complex data are tried anyway)
    device         of the images; by default that of A's buffers and parameters, else the CPU

    Raises AssertionError that says which promise is broken and by how much.
    """
    held = itertools.chain(A.buffers(), A.parameters())
    device = torch.device(device or next((t.device for t in held), "cpu"))
    reports = [_Check(A, seed, dtype, complex_input, device).run() for dtype in dtypes]
    entries = [r.entries for r in reports if r.entries is not None]
    return Report(
        adjoint=max(r.adjoint for r in reports),
        entries=max(entries) if entries else None,
        gradient=max(r.gradient for r in reports),
        norm=reports[-1].norm,
        largest=reports[-1].largest,
    )


def mismatch(
    A: LinearOperator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> float:
    """|⟨A x, y⟩ − ⟨x, A*y⟩| / ‖A x‖‖y‖ of signed random x and y, the worst of three draws.

    About the rounding of `dtype` where `adjoint_is_exact`, and elsewhere what an approximate adjoint does.
    """
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for _ in range(3):
        x = torch.randn(A.in_shape, generator=generator, dtype=torch.float64).to(device, dtype)
        y = torch.randn(A.out_shape, generator=generator, dtype=torch.float64).to(device, dtype)
        if A(x).is_complex():
            raise ValueError(f"mismatch A: expected an operator on real data, got {A!r}; use check(A)")
        Ax, back = A(x).double(), A.adjoint(y).double()
        size = torch.linalg.vector_norm(Ax) * torch.linalg.vector_norm(y.double())
        gap = (Ax * y).sum() - (x * back).sum()
        worst = max(worst, abs(float(gap)) / (float(size) or 1.0))
    return worst


class _Check:
    def __init__(
        self, A: LinearOperator, seed: int, dtype: torch.dtype, complex_input: bool, device: torch.device
    ):
        self.A, self.dtype, self.device = A, dtype, device
        self.generator = torch.Generator().manual_seed(seed)
        self.tolerance, self.entrywise = _TOLERANCE[dtype], _ENTRYWISE[dtype]
        with torch.no_grad():
            y = A(self.random(A.in_shape, dtype))
        wanted = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.data_dtype = wanted if y.is_complex() else dtype
        self.expect(
            y.dtype == self.data_dtype, f"gives {y.dtype} for {dtype} images, expected the same precision"
        )
        complex_input = complex_input or y.is_complex()
        self.image_dtypes = [dtype, wanted] if complex_input else [dtype]

    def run(self) -> Report:
        self.shapes()
        self.purity()
        adjoint = max(self.adjoint(image) for image in self.image_dtypes)
        entries, largest = self.dense()
        norm = self.norm(largest)
        gradient = max(self.gradient(image) for image in self.image_dtypes)
        for image in self.image_dtypes:
            self.linearity(image)
            self.batches(image)
            self.transforms(image)
        return Report(adjoint, entries, gradient, norm, largest)

    def random(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=dtype).to(self.device)

    def image(self, dtype: torch.dtype, *batch: int) -> Tensor:
        return self.random((*batch, *self.A.in_shape), dtype)

    def data(self, image_dtype: torch.dtype, *batch: int) -> Tensor:
        is_complex = image_dtype.is_complex or self.data_dtype.is_complex
        dtype = (
            (torch.complex64 if self.dtype == torch.float32 else torch.complex128)
            if is_complex
            else self.dtype
        )
        return self.random((*batch, *self.A.out_shape), dtype)

    def expect(self, fine: bool, broken: str) -> None:
        if not fine:
            raise AssertionError(f"{self.A!r} in {self.dtype}: {broken}")

    def same(self, got: Tensor, wanted: Tensor, what: str, tolerance: float | None = None) -> float:
        self.expect(
            got.shape == wanted.shape, f"{what}: shape {tuple(got.shape)}, expected {tuple(wanted.shape)}"
        )
        allowed = 10 * self.tolerance if tolerance is None else tolerance
        size = float(torch.linalg.vector_norm(wanted))
        error = float(torch.linalg.vector_norm(got - wanted))
        self.expect(
            error <= allowed * size, f"{what}: relative difference {error / (size or 1):.2g} > {allowed:.2g}"
        )
        return error / (size or 1) / (allowed or 1)

    def adjoint(self, dtype: torch.dtype) -> float:
        """|⟨Ax, y⟩ − ⟨x, A*y⟩| ≤ tol·‖Ax‖‖y‖ for signed random vectors; sums in double precision."""
        worst = 0.0
        for _ in range(3):
            x, y = self.image(dtype), self.data(dtype)
            Ax, back = self.A(x).detach(), self.A.adjoint(y).detach()
            n_in, n_out = len(self.A.in_shape), len(self.A.out_shape)
            left, right = inner(_double(Ax), _double(y), n_out), inner(_double(x), _double(back), n_in)
            size = float(torch.linalg.vector_norm(Ax) * torch.linalg.vector_norm(y))
            worst = max(worst, abs(float(left - right)) / (size or 1))
        broken = f"adjoint: |⟨Ax, y⟩ − ⟨x, A*y⟩| = {worst:.2g} ‖Ax‖‖y‖ > {self.tolerance:.2g}"
        self.expect(worst <= self.tolerance, f"{broken}; `_adjoint` is not the adjoint of `_forward`")
        return worst / self.tolerance

    def dense(self) -> tuple[float | None, float | None]:
        """max|A − (A*)*| ≤ tol·max|A|, and the largest singular value."""
        n_in, n_out = math.prod(self.A.in_shape), math.prod(self.A.out_shape)
        if n_in * n_out > _DENSE or max(n_in, n_out) ** 2 > 4 * _DENSE:
            return None, None
        with torch.no_grad():
            columns = self.A(self.units(n_in, self.A.in_shape)).reshape(n_in, n_out).T
            rows = self.A.adjoint(self.units(n_out, self.A.out_shape)).reshape(n_out, n_in).conj()
        size, difference = float(columns.abs().max()), (columns - rows).abs()
        error = float(difference.max())
        i, j = divmod(int(difference.argmax()), n_in)
        broken = f"adjoint: entry ({i}, {j}) of A is {columns[i, j]:.6g}, of the adjoint {rows[i, j]:.6g}"
        self.expect(
            error <= self.entrywise * size, f"{broken}; difference {error:.2g} > {self.entrywise:.2g}·max|A|"
        )
        largest = float(torch.linalg.matrix_norm(_double(columns), 2)) if min(n_in, n_out) <= 1500 else None
        return error / (size or 1) / self.entrywise, largest

    def units(self, n: int, shape: tuple[int, ...]) -> Tensor:
        return torch.eye(n, dtype=self.dtype, device=self.device).reshape(n, *shape)

    def norm(self, largest: float | None) -> float:
        """‖Ax‖ ≤ 1.02·norm·‖x‖; within 1 % of the largest singular value where that is known."""
        norm = self.A.norm()
        if largest is not None:
            self.expect(
                abs(norm - largest) <= 0.01 * largest, f"norm() = {norm:.6g}, but ‖A‖ = {largest:.6g}"
            )
        x = self.image(self.dtype)
        ratio = float(torch.linalg.vector_norm(self.A(x).detach()) / torch.linalg.vector_norm(x))
        self.expect(ratio <= 1.02 * norm, f"norm() = {norm:.6g}, but ‖Ax‖ = {ratio:.6g} ‖x‖ for some x")
        return norm

    def linearity(self, dtype: torch.dtype) -> None:
        c = 1.5 - 0.7j if dtype.is_complex else -1.7
        x, z = self.image(dtype), self.image(dtype)
        self.same(self.A(c * x + z).detach(), (c * self.A(x) + self.A(z)).detach(), "linearity A(c x + z)")
        y, w = self.data(dtype), self.data(dtype)
        c = c if y.is_complex() else -1.7
        back = self.A.adjoint
        self.same(back(c * y + w).detach(), (c * back(y) + back(w)).detach(), "linearity A*(c y + w)")

    def gradient(self, dtype: torch.dtype) -> float:
        """∇ₓ Re⟨Ax, g⟩ = A*g (its real part for a real x), and the same for the adjoint."""
        x, g = self.image(dtype).requires_grad_(), self.data(dtype)
        (grad,) = torch.autograd.grad(self.A(x), x, g)
        wanted = self.A.adjoint(g).detach()
        worst = self.same(grad, wanted if dtype.is_complex else wanted.real, "gradient against A*g")
        (grad,) = torch.autograd.grad(self.A.adjoint(g.requires_grad_()), g, wanted)
        wanted = self.A(wanted).detach()
        return max(
            worst, self.same(grad, wanted if g.is_complex() else wanted.real, "gradient of the adjoint")
        )

    def transforms(self, dtype: torch.dtype) -> None:
        """Second derivatives, forward mode and vmap."""
        x, t, y = self.image(dtype), self.image(dtype), self.data(dtype)
        if self.dtype == torch.float64:
            for apply, z in ((self.A, x), (self.A.adjoint, y)):
                z = z.clone().requires_grad_()
                fine = torch.autograd.gradgradcheck(apply, z, fast_mode=True, raise_exception=False)
                self.expect(fine, "second derivatives: torch.autograd.gradgradcheck fails")
        moved = torch.func.jvp(self.A, (x,), (t,))
        self.same(moved[0].detach(), self.A(x).detach(), "jvp, value")
        self.same(moved[1].detach(), self.A(t).detach(), "jvp, tangent against A t")
        x, y = self.image(dtype, 3, 2), self.data(dtype, 3)
        self.same(torch.func.vmap(self.A, 1)(x).detach(), self.A(x.transpose(0, 1)).detach(), "vmap")
        self.same(
            torch.func.vmap(self.A.adjoint)(y).detach(), self.A.adjoint(y).detach(), "vmap of the adjoint"
        )

    def batches(self, dtype: torch.dtype) -> None:
        """(*batch, *shape) for no, one, several and empty batches; images do not depend on each other."""
        cases: tuple[tuple[Apply, Tensor, tuple[int, ...]], ...] = (
            (self.A, self.image(dtype, 3, 2), self.A.out_shape),
            (self.A.adjoint, self.data(dtype, 3, 2), self.A.in_shape),
        )
        for apply, images, shape in cases:
            with torch.no_grad():
                single = torch.stack([apply(x) for x in images.flatten(0, 1)])
                self.expect(
                    single.shape[1:] == shape, f"one image gives {tuple(single.shape[1:])}, expected {shape}"
                )
                self.same(apply(images), single.unflatten(0, (3, 2)), "a batch against its images one by one")
                strided = images.transpose(0, 1).contiguous().transpose(0, 1)
                self.same(apply(strided), single.unflatten(0, (3, 2)), "a non-contiguous batch")
                for batch in ((0,), (2, 0)):
                    empty = apply(images.new_zeros(*batch, *images.shape[2:]))
                self.expect(empty.shape == (2, 0, *shape), f"an empty batch gives {tuple(empty.shape)}")

    def purity(self) -> None:
        """Inputs stay as they are, repeated calls agree, A.H.H is A."""
        H = self.A.H
        self.expect(H.H is self.A or H.H.H is H, "A.H.H is not A")
        for apply, x in ((self.A, self.image(self.dtype)), (self.A.adjoint, self.data(self.dtype))):
            before = x.clone()
            with torch.no_grad():
                first = apply(x)
                kept = first.clone()
                again = apply(x)
            self.expect(torch.equal(x, before), "it changes its input")
            self.expect(torch.equal(first, kept), "a second call changes the result of the first")
            # a GPU adds in an order of its own
            self.same(again, first, "two calls with one input", 0.0 if x.device.type == "cpu" else None)
            first.add_(1)
            self.expect(torch.equal(x, before), "its result shares memory with its input")

    def shapes(self) -> None:
        for what, apply, shape in (
            ("", self.A, self.A.in_shape),
            ("adjoint ", self.A.adjoint, self.A.out_shape),
        ):
            wrong = torch.zeros((*shape[:-1], shape[-1] + 1), dtype=self.dtype, device=self.device)
            wanted = f"expects shape (*batch, {', '.join(map(str, shape))}), got {tuple(wrong.shape)}"
            self.refuses(apply, wrong, f"{what}{self.A!r} {wanted}")
            self.refuses(apply, torch.zeros(shape, dtype=torch.int64, device=self.device), "floating-point")

    def refuses(self, apply: Apply, x: Tensor, words: str) -> None:
        try:
            apply(x)
        except ValueError as error:
            self.expect(
                words in str(error),
                f"its error for {x.dtype} {tuple(x.shape)} does not say {words!r}: {error}",
            )
        else:
            self.expect(False, f"it accepts {x.dtype} of shape {tuple(x.shape)}")


def _double(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)
