"""Processes that are killed, asked to stop, or train together."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from recon.checkpoints import read_tensors, write_tensors
from recon.train_fabric import Ranks, launched, layout
from recon.training import TrainingConfig, train

ROOT = Path(__file__).parents[2]


class Points:
    """Batches (None, x), x (size, 3) normal."""

    def batches(self, size, generator):
        while True:
            yield None, torch.randn(size, 3, generator=generator)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


CONFIG = TrainingConfig(
    steps=9, batch_size=5, reuse=2, accumulate=2, average=0.8, warmup=3, checkpoint_every=2
)


def trained(checkpoint=None, callback=None, fabric=None, config=CONFIG):
    net = network()

    def loss(problem, x, generator):
        x = x.double()
        error = net(x)[:, 0] - x.sum(1)
        return {"fit": error.square().mean(), "size": 1e-3 * net(x).abs().mean()}

    progress = train(net, loss, Points(), config, checkpoint=checkpoint, callback=callback, fabric=fabric)
    return net, progress


def flat(net):
    return torch.cat([p.flatten() for p in net.parameters()])


class Gloo:
    """What `Ranks` asks of a Lightning Fabric, by torch alone."""

    def __init__(self, rank, folder):
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
        )
        self.global_rank, self.world_size, self.device = rank, 2, torch.device("cpu")

    def all_reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        torch.distributed.all_reduce(tensor)
        return tensor

    def barrier(self):
        torch.distributed.barrier()


def main(folder, rank):
    """What the processes below do: train together; then the first trains alone and is killed."""
    torch.set_num_threads(1)
    folder = Path(folder)
    net, progress = trained(folder / "both.safetensors", fabric=Gloo(int(rank), folder))
    told = {"losses": progress.losses, "seconds": progress.seconds}
    write_tensors(folder / f"rank{rank}.safetensors", {"weights": flat(net)}, told)
    torch.distributed.destroy_process_group()

    def kill(progress):
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    if rank == "0":
        trained(folder / "killed.safetensors", kill)


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_killed_processes_and_processes_together(tmp_path):
    """SIGKILL between steps loses nothing; two ranks make the steps of one process."""
    running = [start(tmp_path, rank) for rank in (0, 1)]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [-signal.SIGKILL, 0], errors
    alone, progress = trained()

    assert read_tensors(tmp_path / "killed.safetensors")[1]["step"] == 4
    resumed, _ = trained(tmp_path / "killed.safetensors")
    assert torch.equal(flat(resumed), flat(alone))

    found = [read_tensors(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1)]
    (ours, told), (theirs, also) = ((tensors["weights"], header) for tensors, header in found)
    assert torch.equal(ours, theirs) and told == also
    # five images are shared 3 to 2: the same sums in another order, in float64
    torch.testing.assert_close(ours, flat(alone), rtol=1e-10, atol=1e-12)
    assert told["losses"] == pytest.approx(progress.losses, rel=1e-12)
    # one process goes on where two ended
    again, _ = trained(tmp_path / "both.safetensors")
    assert torch.equal(flat(again), ours)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_asked_to_stop_it_writes_a_checkpoint_first(tmp_path, request, number, error):
    # a job in the background of a script begins with SIGINT ignored
    began = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, began))
    path, before = tmp_path / "run.safetensors", signal.getsignal(number)

    def ask(progress):
        if progress.step == 3:
            os.kill(os.getpid(), number)

    with pytest.raises(error) as caught:
        trained(path, ask)
    assert signal.getsignal(number) is before
    assert number == signal.SIGINT or caught.value.code == 143
    # at once after the step, not at the next of `checkpoint_every`
    assert read_tensors(path)[1]["step"] in (3, 4)
    resumed, _ = trained(path)
    assert torch.equal(flat(resumed), flat(trained()[0]))


def test_an_interrupt_from_the_callback_writes_a_checkpoint(tmp_path):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run.safetensors", interrupt)
    assert read_tensors(tmp_path / "run.safetensors")[1]["step"] == 3


def test_training_outside_the_main_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(trained(tmp_path / "run.safetensors")[0]))
    thread.start()
    thread.join()
    assert torch.equal(flat(found[0]), flat(trained()[0]))


def test_who_starts_how_many_processes():
    assert layout({}) == (1, 1)
    assert layout({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}) == (4, 2)
    assert layout({"SLURM_PROCID": "0", "SLURM_NNODES": "3", "SLURM_NTASKS": "6"}) == (2, 3)
    with pytest.raises(ValueError, match="as many processes on every node"):
        layout({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "6"})


def test_fewer_images_than_ranks_are_refused():
    class Many:
        global_rank, world_size, device = 0, 3, torch.device("cpu")

    with pytest.raises(ValueError, match="at least one image a rank, 3; got 2"):
        Ranks(Many()).share(None, torch.zeros(2, 4))
    shares = []
    for Many.global_rank in range(3):
        _, images, part = Ranks(Many()).share(None, torch.arange(7.0))
        shares.append((images.tolist(), part))
    assert [x for images, _ in shares for x in images] == list(range(7))
    assert [part for _, part in shares] == [3 / 7, 2 / 7, 2 / 7]


def test_fabric_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    with pytest.raises(ImportError, match=r"hybrid-recon\[train\]"):
        launched()


if __name__ == "__main__":
    main(*sys.argv[1:])
