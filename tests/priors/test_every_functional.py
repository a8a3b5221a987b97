"""The contract, on every functional that gives `examples()`."""

import importlib
import pkgutil

import pytest
import torch

import priors
from priors import Functional
from priors.testing import check


def subclasses(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


def every_example():
    for module in pkgutil.walk_packages(priors.__path__, "priors."):
        if not module.name.startswith("priors.interop"):
            importlib.import_module(module.name)
    found = {
        c for c in subclasses(Functional) if c.__module__.startswith("priors.") and "examples" in c.__dict__
    }
    for cls in sorted(found, key=lambda c: c.__qualname__):
        for k, (f, shape) in enumerate(cls.examples()):
            yield pytest.param(f, shape, id=f"{cls.__name__}-{k}")


def takes_complex(f, shape):
    try:
        f(torch.zeros(shape, dtype=torch.complex64))
    except ValueError as error:
        assert "expects a real image" in str(error)
        return False
    return True


@pytest.mark.parametrize(("f", "shape"), list(every_example()))
def test_keeps_the_contract(f, shape):
    check(f, shape, complex_input=takes_complex(f, shape))


def test_the_search_finds_the_classical_ones():
    names = {p.id.split("-")[0] for p in every_example()}
    assert names >= {"SquaredL2", "L1", "L2", "L21", "Huber", "HuberL21", "Zero", "NonNegative", "Box"}
    assert names >= {"TV", "HuberTV", "WaveletL1", "Quadratic"}
