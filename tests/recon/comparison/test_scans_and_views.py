"""Problems of complex images, judged by their magnitude, and problems that take a folder of scans."""

import numpy as np
from click.testing import CliRunner

from recon.cli import main
from recon.comparison.files import read_image, read_json
from recon.comparison.parameters import parameter_file

PROBLEM = '''
"""Complex images: of a generator, or of a folder."""
import numpy as np
import torch
from operators import Gaussian, Identity
from recon import Problem
from recon.comparison import Task, Window

A, NOISE = Identity((12, 16)), Gaussian(sigma=0.01)


def task(data=None):
    x = torch.full(A.in_shape, 0.5) if data is None else torch.from_numpy(np.load(data / "x.npy"))
    x = x * torch.exp(1j * torch.linspace(0, 6, 16))
    pair = (Problem(A, NOISE(x), NOISE), x)
    return Task(
        name="waves" if data is None else "waves-scans", pairs=lambda split: [pair],
        metrics=("psnr_db", "ssim"), data_range=1.0, view=torch.abs, windows=(Window("full", 0, 1),),
        configuration={"image": x},
    )
'''

METHODS = '''
"""The image, and its magnitude alone."""
from recon import Reconstructor
from recon.comparison import Method, Log

class Complex(Reconstructor):
    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
    def forward(self, problem):
        return self.scale * problem.y

class Magnitude(Complex):
    def forward(self, problem):
        return self.scale * problem.y.abs()

METHODS = {
    "complex": Method(Complex),
    "magnitude": Method(Magnitude),
    "tuned": Method(Complex, space={"scale": Log(0.9, 1.1)}),
}
'''


def call(tmp_path, *arguments):
    (tmp_path / "waves.py").write_text(PROBLEM)
    (tmp_path / "fakes.py").write_text(METHODS)
    out = tmp_path / "out"
    fixed = ["compare", "--problem", tmp_path / "waves.py", "--methods", tmp_path / "fakes.py", "--out", out]
    done = CliRunner().invoke(main, [str(a) for a in (*fixed, "--no-memory", *arguments)])
    assert done.exit_code == 0, done.output
    return out


def test_magnitudes_are_judged_and_kept(tmp_path):
    out = call(tmp_path)
    image = read_image(out / "images" / "waves" / "complex-000.npz")
    assert not np.iscomplexobj(image)
    np.testing.assert_array_equal(image, read_image(out / "images" / "waves" / "magnitude-000.npz"))
    lines = (out / "rows.csv").read_text().splitlines()
    score = [line.split(",")[lines[0].split(",").index("psnr_db")] for line in lines[1:]]
    assert len(score) == 3 and score[0] == score[1]


def test_a_folder_of_scans_is_another_problem(tmp_path):
    np.save(tmp_path / "x.npy", np.full((12, 16), 0.25, np.float32))
    out = call(tmp_path, "--data", tmp_path, "--tune", "--trials", "3")
    truth = next((out / "images" / "waves-scans").glob("truth-*.npz"))
    np.testing.assert_allclose(read_image(truth), 0.25, rtol=1e-6)
    path = parameter_file(str(tmp_path / "waves.py"), "waves-scans")
    assert read_json(path)["problem"] == "waves-scans"
    assert not parameter_file(str(tmp_path / "waves.py")).exists()


def test_a_problem_that_takes_no_scans_says_so(tmp_path, problem_file):
    done = CliRunner().invoke(main, ["compare", "--problem", str(problem_file), "--data", str(tmp_path)])
    assert done.exit_code == 2 and "takes no folder of scans" in done.output
