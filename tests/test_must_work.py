"""What must work: the inputs and the company people bring."""

import math
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from operators import FanBeam, Gaussian, LowDose, ParallelBeam, XRay
from recon import CGLS, FBP, SIRT, Problem, PWLSTotalVariation, TotalVariation
from recon.data import random_head, simulate

ANGLES = [math.pi * k / 8 for k in range(8)]


def geometry() -> ParallelBeam:
    return ParallelBeam((16, 16), 1.0, ANGLES, 25, 1.0)


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor, lambda a: torch.tensor(a).double()])
def test_angles_in_any_form(form) -> None:
    made = ParallelBeam((16, 16), 1.0, form(ANGLES), 25, 1.0)
    np.testing.assert_allclose(made.angles, ANGLES, atol=1e-6)  # float32 tensors
    assert all(type(angle) is float for angle in made.angles)
    assert eval(repr(made)) == made


@pytest.mark.parametrize("backend", ["auto", "numba", "sparse"])
def test_memory_in_any_form(backend: str) -> None:
    A = XRay(geometry(), backend)
    x = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = A(x)
    torch.testing.assert_close(A(x.transpose(-1, -2).contiguous().transpose(-1, -2)), expected)
    torch.testing.assert_close(A(torch.stack([x, x], -1)[..., 0]), expected)
    array = x.numpy().copy()
    array.setflags(write=False)
    with warnings.catch_warnings(action="ignore"):  # torch warns once that it cannot guard it
        read_only = torch.from_numpy(array)
    torch.testing.assert_close(A(read_only), expected)
    assert A(x[:0]).shape == (0, 8, 25)
    assert A(torch.zeros(2, 0, 16, 16)).shape == (2, 0, 8, 25)


def test_empty_batch_through_methods() -> None:
    problem = Problem(XRay(geometry()), torch.zeros(0, 8, 25), Gaussian(0.1))
    for method in (FBP(), CGLS(iterations=3), SIRT(iterations=3), TotalVariation(weight=1.0)):
        assert method(problem).shape == (0, 16, 16)


class Sinograms(Dataset):
    def __init__(self) -> None:
        self.A = XRay(geometry(), backend="numba")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.A(torch.full((16, 16), float(index)))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_workers(context: str) -> None:
    data = Sinograms()
    expected = data[3]  # the parent's thread pool is up before the workers start
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=context, timeout=120)
    torch.testing.assert_close(torch.cat(list(loader))[3], expected)


def test_three_threads() -> None:
    A = XRay(geometry(), backend="numba")
    x = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    expected, found = A(x), []

    def work() -> None:
        found.extend(A(x) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 60
    for y in found:
        torch.testing.assert_close(y, expected)


def head_problems() -> Iterator[tuple[Problem, torch.Tensor]]:
    angles = [2 * math.pi * k / 40 for k in range(40)]
    scanner = FanBeam((64, 64), 3.44, angles, 92, 10.2864, 595.0, 1085.6, "arc")
    heads = torch.stack([random_head(seed=s).rasterise((128, 128), 1.72).float() for s in (0, 1)])
    heads[1] *= 1.5  # a brighter neighbour
    yield simulate(heads, scanner, LowDose(2.5e6, electronic_sigma=3.0), seed=[5, 6])


@pytest.mark.parametrize(
    "method", [FBP(), TotalVariation(20.0, iterations=60), PWLSTotalVariation(20.0, iterations=60)], ids=repr
)
def test_an_image_is_the_same_alone_and_in_a_batch(method) -> None:
    for problem, _ in head_problems():
        together = method(problem)
        alone = method(Problem(problem.A, problem.y[0], problem.noise))
        # float32, and sums in another order where a batch fills the vector lanes otherwise
        torch.testing.assert_close(together[0], alone, atol=2e-4 * float(alone.max()), rtol=0)
