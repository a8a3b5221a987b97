"""Slabs and blocks add up to the whole, on disk and within the memory that was allowed."""

import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from operators import ConeBeam, FanBeam, XRay
from operators.splitting import Split
from recon.solvers import run, sart, sart_on_disk, sirt, view_order

ROOT = Path(__file__).parents[2]
TURN = [2 * math.pi * k / 24 for k in range(24)]
CONE = ConeBeam((20, 18, 18), 1.0, TURN, (16, 28), 2.0, 40.0, 80.0, pitch=2.0)
ROOM = 0.6 * 2**20  # [bytes] for a few slices and views of CONE


def data():
    x = torch.rand(CONE.in_shape, generator=torch.Generator().manual_seed(0))
    return x.numpy(), XRay(CONE)(x).numpy()


def on_disk(folder, name, array):
    file = np.lib.format.open_memmap(folder / name, "w+", np.float32, array.shape)
    file[:] = array
    return file


def test_a_split_covers_every_slice_and_view_once():
    split = Split(CONE, ROOM)
    assert len(split.slabs) >= 2
    assert len(split.blocks) >= 2
    assert sorted(k for s in split.slabs for k in range(s.start, s.stop)) == list(range(20))
    assert sorted(v for b in split.blocks for v in b) == list(range(24))
    assert [len(Split(CONE, 1e9).slabs), len(Split(CONE, 1e9).blocks)] == [1, 1]
    assert sorted(v for b in Split(CONE, ROOM, [3, 5, 9]).blocks for v in b) == [3, 5, 9]


def test_projections_on_disk_are_those_in_memory(tmp_path):
    x, y = data()
    volume, projections = on_disk(tmp_path, "x.npy", x), on_disk(tmp_path, "y.npy", np.zeros_like(y))
    Split(CONE, ROOM).project(volume, projections)
    np.testing.assert_allclose(projections, y, rtol=0, atol=1e-5 * y.max())
    back = on_disk(tmp_path, "back.npy", np.zeros_like(x))
    Split(CONE, ROOM).backproject(projections, back)
    expected = XRay(CONE).adjoint(torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-5 * expected.max())


def test_sirt_on_disk_is_sirt_in_memory(tmp_path):
    _, y = data()
    projections = on_disk(tmp_path, "y.npy", y)
    volume = on_disk(tmp_path, "x.npy", np.zeros(CONE.in_shape))
    seen = []
    history = sart_on_disk(
        CONE, projections, volume, 4, ROOM, relaxation=1.5, lower=0.0, scratch=tmp_path,
        callback=lambda *k: seen.append(k),
    )  # fmt: skip
    A = XRay(CONE)
    expected = run(sirt(A, torch.from_numpy(y), torch.zeros(A.in_shape), 1.5, 0.0), 4)
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-5 * float(expected.max()))
    assert seen == list(enumerate(history))
    assert all(b < a for a, b in pairwise(history))
    np.testing.assert_array_equal(projections, y)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["x.npy", "y.npy"]  # scratch is gone


def test_subsets_on_disk_are_subsets_in_memory(tmp_path):
    _, y = data()
    volume = np.full(CONE.in_shape, 0.1)  # an array in memory, of another dtype, will do as well
    sart_on_disk(CONE, y, volume, 2, ROOM, subsets=4)
    A = XRay(CONE)
    views = [slice(i, None, 4) for i in view_order(4)]
    parts = [A.subset(v) for v in views]
    start = torch.full(A.in_shape, 0.1)
    expected = run(sart(parts, [torch.from_numpy(y[v]) for v in views], start), 2)
    np.testing.assert_allclose(volume, expected, rtol=0, atol=1e-5 * float(expected.max()))


MEASURE = """
import sys, threading, time
import numpy as np, torch
from operators import ConeBeam
from recon.solvers import sart_on_disk
torch.set_num_threads(1)
folder, memory = sys.argv[1], float(sys.argv[2])

def scan(n):
    angles = [0.1 * k for k in range(n // 8)]
    return ConeBeam((2 * n, n, n), 1.0, angles, (n, n), 2.0, 2.0 * n, 4.0 * n)

def memmap(name, shape):
    return np.lib.format.open_memmap(f"{folder}/{name}.npy", "w+", np.float32, shape)

def anonymous():
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])

small, large = scan(16), scan(80)
sart_on_disk(small, np.zeros(small.out_shape), np.zeros(small.in_shape), 1, 1e9)  # compiled
data, volume = memmap("data", large.out_shape), memmap("volume", large.in_shape)
before, most, done = anonymous(), [0], threading.Event()

def watch():
    while not done.wait(0.005):
        most[0] = max(most[0], anonymous())

thread = threading.Thread(target=watch)
thread.start()
sart_on_disk(large, data, volume, 1, memory, scratch=folder)
done.set()
thread.join()
print(most[0] - before, data.nbytes, volume.nbytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_working_memory_stays_below_what_was_allowed(tmp_path):
    memory = 2.5 * 2**20
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(memory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    used, _, volume_bytes = map(int, done.stdout.split())
    assert 0 < used <= memory
    assert memory < 0.7 * volume_bytes


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Split(CONE, 1e4), r"memory: expected at least .* MiB for one slice and one view"),
        (lambda: Split(FanBeam((4, 4), 1.0, [0.0], 4, 1.0, 9.0, 9.0), 1e9), "three dimensions"),
        (lambda: Split(CONE, 1e9, []), "0 views"),
        (
            lambda: Split(CONE, 1e9).project(np.zeros((2, 3)), np.zeros(3)),
            "volume: expected an array of shape",
        ),
        (lambda: sart_on_disk(CONE, np.zeros(3), np.zeros(CONE.in_shape), 1, 1e9), "data: expected shape"),
        (lambda: sart_on_disk(CONE, *data()[::-1], 1, 1e9, subsets=0), "subsets: expected 1 to 24"),
        (lambda: sart_on_disk(CONE, *data()[::-1], 1, 1e9, relaxation=2.0), "relaxation"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(ValueError, match=words):
        make()
