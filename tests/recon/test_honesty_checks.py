"""Data checks, unsuitable inputs, disagreement, failures and leaks where the right answer is known."""

import json
import math

import pytest
import torch
from torch import nn

from operators import Gaussian, Identity, Mask, ParallelBeam, XRay
from recon import CGLS, FBP, Problem, Reconstructor, TotalVariation
from recon.baselines.automap import AUTOMAP
from recon.baselines.postprocess import FBPUNet
from recon.data.sets import PairedData
from recon.honesty import (
    Disagreement,
    OutOfDistribution,
    Runs,
    SamplesResult,
    check_data,
    check_row,
    chi2_interval,
    failure_report,
    harmed,
    input_statistics,
    layer_features,
    membership_gap,
    more_samples,
    on_data,
    on_image,
    read_runs,
    rescanned,
    split_error,
    success_table,
    write_report,
)
from recon.metrics import auc

D = torch.float64
N = 12


def drawn(n, sigma=0.1, seed=0, shape=(N, N)):
    """Images of one height each in noise, through the identity."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(n, 1, 1, generator=g, dtype=D).expand(n, *shape).clone()
    noise = Gaussian(sigma=sigma)
    return Problem(Identity(shape), noise(truth, seed=seed), noise), truth


def test_the_truth_explains_its_data_as_noise_lets_it():
    problem, truth = drawn(50, 0.3)
    found = check_data(truth, problem)
    count = N * N
    assert found.measured.tolist() == [count] * 50
    # the mean of 50: seven times narrower than the interval of one
    assert abs(float(found.reduced_chi2.mean()) - 1) < 4 * math.sqrt(2 / count / 50)
    low, high = chi2_interval(count, 4)
    assert bool((found.reduced_chi2 > low).all() and (found.reduced_chi2 < high).all())
    assert not bool(found.denies().any())
    torch.testing.assert_close(check_data(problem.y, problem).reduced_chi2, torch.zeros(50, dtype=D))
    wrong = check_data(truth + 0.3, problem)  # one standard deviation everywhere: 1 + 1
    assert abs(float(wrong.reduced_chi2.mean()) - 2) < 0.1 and bool(wrong.denies().all())


def test_only_what_was_measured_counts_also_of_complex_data():
    keep = torch.rand(N, N, generator=torch.Generator().manual_seed(1)) > 0.5
    noise = Gaussian(sigma=0.2, mask=keep)
    truth = torch.full((40, N, N), 1 + 2j, dtype=torch.complex128)
    problem = Problem(Mask(keep.double()), noise(keep * truth, seed=0), noise)
    found = check_data(truth, problem)
    assert found.measured.tolist() == [int(keep.sum())] * 40
    # |n|²/σ² has mean 1 and variance 1 for circular noise
    assert abs(float(found.reduced_chi2.mean()) - 1) < 4 / math.sqrt(int(keep.sum()) * 40)
    assert float(found.relative.mean()) == pytest.approx(0.2 / math.sqrt(5), rel=0.05)


def test_the_error_is_split_into_what_data_see_and_what_they_do_not():
    keep = torch.ones(N, N, dtype=D)
    keep[:, 5:8] = 0
    e = torch.randn(3, N, N, generator=torch.Generator().manual_seed(0), dtype=D)
    truth = torch.zeros_like(e)
    found = split_error(e, truth, Mask(keep))
    torch.testing.assert_close(found.visible, keep * e)
    torch.testing.assert_close(found.invisible, (1 - keep) * e)
    expected = (keep * e).square().sum((1, 2)) / e.square().sum((1, 2))
    torch.testing.assert_close(found.visible_share, expected)
    assert float(found.leak.max()) < 1e-10


A = XRay(ParallelBeam((N, N), 1.0, [0.1, 1.3, 2.2], 17, 1.0), backend="sparse")


def test_the_split_is_the_projection_onto_the_rows_of_a():
    matrix = A(torch.eye(N * N, dtype=D).unflatten(1, (N, N))).flatten(1).T
    e = torch.randn(2, N, N, generator=torch.Generator().manual_seed(3), dtype=D)
    found = split_error(e, torch.zeros_like(e), A, iterations=300, tolerance=1e-13)
    visible = (torch.linalg.pinv(matrix, rtol=1e-9) @ matrix @ e.flatten(1).T).T
    torch.testing.assert_close(found.visible.flatten(1), visible, atol=1e-6, rtol=0)
    assert float((found.visible * found.invisible).sum()) == pytest.approx(0, abs=1e-5)


def test_a_row_for_a_table():
    truth = torch.ones(4, N, N, dtype=D)
    noise = Gaussian(sigma=0.2)
    problem = Problem(A, noise(A(truth), seed=0), noise)
    honest = check_row("cgls", CGLS(iterations=5), problem, truth)
    liar = check_row("a constant", lambda p: 2 * truth, problem, truth)
    assert liar["denies"] == 1 and liar["reduced_chi2"] > 100 > honest["worst_chi2"]
    both = (liar["visible_error"] ** 2 + liar["invisible_error"] ** 2) ** 0.5
    assert both == pytest.approx(liar["nrmse"], rel=1e-6) == 1.0
    assert "nrmse" not in check_row("cgls", CGLS(iterations=5), problem)


def score(n, sigma=0.1, seed=0, detector=None):
    return detector.score(drawn(n, sigma, seed)[0])


def test_false_alarms_come_at_the_promised_share_and_other_noise_is_found():
    level, draws, n = 0.1, 20, 100
    shares, areas = [], []
    for k in range(draws):
        detector = OutOfDistribution(level=level).fit([drawn(200, seed=3 * k + 1)[0]])
        detector.calibrate([drawn(99, seed=3 * k + 2)[0]])
        own = drawn(n, seed=3 * k + 3)[0]
        shares.append(float(detector.flag(own).double().mean()))
        noisier = detector.score(drawn(n, 0.13, seed=k)[0])
        areas.append(auc(detector.score(own), noisier)[0])
    # marginal over draws: variance level(1 − level)(1/n + 1/(calibration + 2)) of one, four standard errors
    error = math.sqrt(level * (1 - level) * (1 / n + 1 / 101) / draws)
    assert abs(sum(shares) / draws - level) < 4 * error
    assert min(areas) > 0.9
    far = drawn(10, 0.3, seed=5)[0]
    assert bool(detector.flag(far).all()) and detector.p_value(far).tolist() == pytest.approx([0.01] * 10)


def test_the_distance_of_normal_features_is_chi_squared():
    g = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=g, dtype=D)
    table = torch.randn(4000, 4, generator=g, dtype=D) @ mix
    problem, _ = drawn(4000)
    detector = OutOfDistribution(lambda p: table, shrinkage=0.0).fit([problem])
    found = detector.score(problem)
    assert float(found.mean()) == pytest.approx(4, rel=1e-3)  # (n − 1)/n · d, exactly
    assert float(found.var()) == pytest.approx(8, rel=0.15)  # four standard errors of a heavy tail
    shifted = OutOfDistribution(lambda p: table[:50] + mix[0], shrinkage=0.0)
    shifted.mean, shifted.factor = detector.mean, detector.factor
    assert float((shifted.score(drawn(50)[0]) - found[:50]).mean()) == pytest.approx(1.0, abs=1.2)


def test_features_of_networks_and_of_layers():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3))
    problem = Problem(Identity((N, N)), torch.rand(5, N, N), Gaussian(sigma=0.1))
    for features in (on_data(lambda x: [network(x)]), on_image(lambda p: p.y, lambda x: [network(x)])):
        detector = OutOfDistribution(features).fit([problem])
        assert detector.mean.shape == (4,) and detector.score(problem).shape == (5,)
    assert input_statistics(problem).shape == (5, 10)
    levels = torch.tensor([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], dtype=D)
    wanted = torch.quantile(problem.y.double().flatten(1), levels, dim=1).T
    torch.testing.assert_close(input_statistics(problem)[:, 2:9], wanted)

    class Net(Reconstructor):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, problem):
            return self.network(problem.y[:, None])[:, 0]

    features = layer_features(Net(), ["network.0", "network.2"])
    found = features(problem)
    assert [tuple(h.shape) for h in found] == [(5, 3, 10, 10), (5, 2, 8, 8)]
    assert OutOfDistribution(features).fit([problem]).mean.shape == (10,)
    assert not network[0]._forward_hooks
    with pytest.raises(ValueError, match="named_modules"):
        layer_features(Net(), ["network.9"])
    with pytest.raises(ValueError, match="calibrate"):
        OutOfDistribution().fit([problem]).flag(problem)
    with pytest.raises(ValueError, match="not fitted"):
        OutOfDistribution().score(problem)


class Plus(Reconstructor):
    """y plus c times what stands out of the mean: members agree on flat images."""

    def __init__(self, c):
        super().__init__()
        self.c = c

    def forward(self, problem):
        y = problem.y
        return y + self.c * (y - y.mean((-2, -1), keepdim=True)).abs()


def test_disagreement_is_the_standard_deviation_of_the_members_over_the_body():
    y = torch.zeros(2, N, N, dtype=D)
    y[:, :, 6:] = 1.0
    y[1] = 1.0
    problem = Problem(Identity((N, N)), y, Gaussian(sigma=0.1))
    tool = Disagreement([Plus(-0.2), Plus(0.2)])
    mean, spread = tool.maps(problem)
    torch.testing.assert_close(mean, y)
    # ±0.2·|y − 1/2| has standard deviation √2·0.1; the other image is flat
    torch.testing.assert_close(spread[0], torch.full((N, N), 0.1 * math.sqrt(2), dtype=D))
    torch.testing.assert_close(tool.score(problem), torch.tensor([0.1 * math.sqrt(2), 0.0], dtype=D))
    right = Disagreement([Plus(-0.2), Plus(0.2)], body=lambda x: x < 0.5)
    assert float(right.score(problem)[1]) == 0.0
    with pytest.raises(ValueError, match="calibrate"):
        tool.flag(problem)


def test_unsuitable_inputs_are_flagged_and_others_rarely():
    tool = Disagreement([Plus(-0.2), Plus(0.2)], level=0.1, body=torch.ones_like)
    tool.calibrate([drawn(99, seed=1)[0]])
    share = float(tool.flag(drawn(300, seed=2)[0]).double().mean())
    # level ± four standard errors of test and calibration
    assert share == pytest.approx(0.1, abs=4 * math.sqrt(0.09 * (1 / 300 + 1 / 101)))
    assert bool(tool.flag(drawn(20, 0.2, seed=3)[0]).all())


def test_what_is_not_finite_is_flagged():
    """NaN is above no threshold, and within none."""
    problem, truth = drawn(30, seed=1)
    ood = OutOfDistribution(lambda p: p.y.flatten(1)[:, :3].log(), level=0.2)
    ood.fit([Problem(problem.A, problem.y.abs(), problem.noise)])
    ood.threshold = 1e9
    negative = Problem(problem.A, -problem.y.abs(), problem.noise)  # of which the logarithm is NaN
    assert bool(ood.flag(negative).all())
    members = Disagreement([Plus(math.nan), Plus(0.2)], body=torch.ones_like)
    members.threshold = 1e9
    assert bool(members.flag(problem).all())
    assert bool(check_data(torch.full_like(truth, math.nan), problem).denies().all())


def test_failures_are_told_and_nothing_is_clipped(tmp_path):
    truth = torch.ones(3, N, N, dtype=D)
    noise = Gaussian(sigma=0.2)
    problem = Problem(A, noise(A(truth), seed=0), noise)

    def broken(p):
        x = CGLS(iterations=5)(p)
        x[1, 2, 3] = math.nan
        x[2] = 100.0
        return x

    ood = OutOfDistribution(level=0.2).fit([problem]).calibrate([Problem(A, problem.y + 0.01, noise)] * 2)
    members = Disagreement([CGLS(iterations=2), CGLS(iterations=5)], level=0.5).calibrate([problem])
    found = failure_report(broken, problem, ood=ood, ensemble=members, seed=7)
    assert [r.non_finite for r in found] == [0, 1, 0] and [r.diverged for r in found] == [False, True, True]
    assert [r.case for r in found] == [0, 1, 2] and {r.seed for r in found} == {7}
    assert "not finite" in found[1].flags and "denies its data" in found[2].flags
    assert found[0].std == pytest.approx(float(members.score(problem)[0]))
    assert found[0].ood_score == pytest.approx(float(ood.score(problem)[0])) and 0 < found[0].ood_p <= 1
    path = write_report(tmp_path / "report.json", found)
    told = json.loads(path.read_text())["cases"]
    assert told[1]["residual"] == "nan" and told[0]["residual"] == pytest.approx(found[0].residual)

    tv = failure_report(TotalVariation(1.0, iterations=7, tolerance=0.0), problem)
    assert [r.iterations for r in tv] == [7] * 3 and tv[0].std is None and not tv[0].diverged

    def fails(p):
        raise FloatingPointError("diverged at iteration 3")

    failed = failure_report(fails, problem)
    assert all(r.diverged and "iteration 3" in r.error for r in failed)


def test_seeds_that_failed_are_counted(tmp_path):
    def summary(name, good, bad):
        scores = {str(s): {"psnr_db_range_truth": 20.0 + s} for s in range(good)}
        failures = [{"seed": 100 + s, "error": "ValueError: loss | nan"} for s in range(bad)]
        told = {"command": "recon train", "scores": scores, "failures": failures}
        (tmp_path / f"{name}.seeds.json").write_text(json.dumps(told))

    summary("a", 3, 1)
    summary("b", 0, 2)
    runs = read_runs(tmp_path)
    assert [r.name for r in runs] == ["a", "b"] and isinstance(runs[0], Runs)
    assert (runs[0].success.hits, runs[0].success.of) == (3, 4) and runs[1].success.share == 0
    assert runs[0].values("psnr_db_range_truth") == [20, 21, 22]
    table = success_table(runs).splitlines()
    assert "21 ± 1" in table[2] and "loss / nan" in table[2] and "| – |" in table[3]
    (tmp_path / "c.seeds.json").write_text("{}")
    with pytest.raises(ValueError, match="not a summary"):
        read_runs(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.seeds\.json"):
        read_runs(tmp_path / "empty")


def test_the_summary_of_train_seeds_is_read(tmp_path):
    from recon.train_method import train_seeds

    pair = scan(4)
    pairs = PairedData(pair, pair, name="drawn")
    settings = {"base": 2, "depth": 1, "steps": 1, "batch_size": 2}
    train_seeds("fbp-unet", pairs, tmp_path / "unet", [0, 1], **settings)
    (run,) = read_runs(tmp_path / "unet.seeds.json")
    assert run.success.share == 1 and len(run.values("psnr_db_range_truth")) == 2


def test_a_method_that_remembers_is_found_out_and_one_that_never_learned_is_not():
    (seen, truth), fresh = drawn(40, seed=1), drawn(40, seed=2)

    def remembers(p):
        nearest = (p.y.flatten(1)[:, None] - seen.y.flatten(1)[None]).square().sum(2)
        x = p.y.clone()
        known = nearest.amin(1) == 0
        x[known] = truth[nearest.argmin(1)[known]]
        return x

    found = membership_gap(remembers, (seen, truth), fresh)
    assert found.auc == 1 and found.advantage == 1 and found.leaks and found.train_loss < found.fresh_loss
    honest = membership_gap(
        lambda p: 0.9 * p.y, (seen, truth), fresh, lambda x, t: (x - t).abs().mean((1, 2))
    )
    assert not honest.leaks and abs(honest.auc - 0.5) < 4 * honest.auc_error
    # of two samples of 40 the error is √(81/(12·1600)) where nothing is known
    assert honest.auc_error == pytest.approx(math.sqrt(81 / 19200), rel=0.3)
    # two of each part by chance once in six times
    two = Problem(seen.A, seen.y[:2], seen.noise)
    few = membership_gap(remembers, (two, truth[:2]), drawn(2, seed=2))
    assert few.auc == 1 and few.auc_error == 0 and not few.leaks
    with pytest.raises(ValueError, match="batch of 2"):
        membership_gap(remembers, drawn(1), fresh)


def scan(views, n=3):
    geometry = ParallelBeam((N, N), 1.0, [math.pi * (k + 0.5) / views for k in range(views)], 17, 1.0)
    operator = XRay(geometry, backend="sparse")
    truth = torch.zeros(n, N, N)
    truth[:, 3:8, 4:9] = 1.0
    noise = Gaussian(sigma=0.05)
    return Problem(operator, noise(operator(truth), seed=0), noise), truth


def test_more_views_help_filtered_back_projection_and_harm_who_ignores_them():
    rows = more_samples(FBP(), scan, [4, 8, 16, 32])
    assert [r.samples for r in rows] == [4, 8, 16, 32] and harmed(rows) == []
    assert rows[0].nrmse > rows[3].nrmse

    def worse(p):
        return scan(8)[1] + p.A.out_shape[0] / 100

    assert harmed(more_samples(worse, scan, [8, 4, 16])) == [8, 16]
    assert harmed([SamplesResult(1, 0.5), SamplesResult(2, math.nan, "no"), SamplesResult(3, 0.505)]) == []


def test_trained_methods_are_carried_over_where_their_layers_allow_it():
    problem, truth = scan(8)
    pairs = PairedData((problem, truth), (problem, truth))
    unet = FBPUNet(base=2, depth=1, steps=1, batch_size=2).fit(pairs)
    other, _ = scan(16)
    carried = rescanned(unet, other)
    assert carried.trained_for.out_shape == (16, 17) and unet.trained_for.out_shape == (8, 17)
    assert carried.trained_for.norm == pytest.approx(other.A.norm())
    rows = more_samples(unet, scan, [8, 16])
    assert all(math.isfinite(r.nrmse) for r in rows)
    automap = AUTOMAP(hidden=4, features=2, steps=1, batch_size=2).fit(pairs)
    rows = more_samples(automap, scan, [8, 16])
    assert math.isfinite(rows[0].nrmse) and math.isnan(rows[1].nrmse) and "RuntimeError" in rows[1].error
    with pytest.raises(ValueError, match="not trained"):
        rescanned(FBPUNet(), other)
