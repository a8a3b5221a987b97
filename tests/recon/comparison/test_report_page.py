"""The report: as many rows as the CSV, pictures that decode, no address, offline."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recon.comparison import Run, compare, write_report, write_tables
from recon.comparison import problem as load
from recon.comparison.method import load_methods
from recon.comparison.panels import diverging, grey, in_unit, shared_scale

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture
def folder(problem_file, method_file, tmp_path) -> Path:
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    names = ("copy", "damp", "fails", "slow")
    for _ in compare([Run(task, n, methods[n]) for n in names], tmp_path / "out"):
        pass
    write_tables(tmp_path / "out")
    write_report(tmp_path / "out")
    return tmp_path / "out"


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.rows, self.images, self.addresses, self.open = 0, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.rows += tag == "tr" and given.get("class") == "row"
        if tag == "img":
            self.images.append(given["src"])
        self.addresses += [v for k, v in attributes if k in ("href", "src", "action", "data") and v]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_as_many_rows_as_the_csv(folder):
    page = Page((folder / "report.html").read_text())
    with (folder / "rows.csv").open() as file:
        assert page.rows == len(list(csv.DictReader(file))) == 6 + 6 + 6 + 2
    assert page.open == [], "every tag is closed"


def test_every_image_decodes(folder):
    page = Page((folder / "report.html").read_text())
    # two images × (truth: window, zoom; 3 methods: window, zoom, difference), and the dot chart
    assert len(page.images) == 2 * (2 + 3 * 3) + 1
    for source in page.images:
        start, data = source.split(",", 1)
        assert start == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    for path in (folder / "panels").iterdir():
        Image.open(path).load()


def test_no_network_address(folder):
    text = (folder / "report.html").read_text()
    assert not re.search(r"https?:|://|@import|url\(|<script|<link", text)
    assert all(a.startswith(("#", "data:image/png")) for a in Page(text).addresses)


def test_n_failures_and_spread_are_printed(folder):
    text = " ".join(re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text()).split())
    assert "6 failures" in text and "RuntimeError: no luck at all" in text
    assert "2 images: too few for an interval" in text
    summary = json.loads((folder / "summary.json").read_text())["blobs"]["methods"]
    assert summary["copy"]["metrics"]["psnr_db"]["n"] == 6
    assert summary["slow"]["metrics"]["psnr_db"]["interval"] is None
    assert summary["fails"]["metrics"]["psnr_db"] == summary["fails"]["metrics"]["psnr_db"] | {
        "mean": None,
        "failures": 6,
    }


def test_a_single_image_says_what_it_shows(write_problem, method_file, tmp_path):
    task, methods = load(str(write_problem(distinct=1))), load_methods([str(method_file)])
    for _ in compare([Run(task, "copy", methods["copy"])], tmp_path / "one"):
        pass
    text = " ".join(write_report(tmp_path / "one").read_text().split())
    assert "ne image, 6 noise draws: the spread over noise is all it shows" in text
    assert "[" not in re.search(r"<td>copy</td>.*?</tr>", text).group(), "no interval"


def test_all_methods_failing_still_make_a_report(problem_file, method_file, tmp_path):
    task, methods = load(str(problem_file)), load_methods([str(method_file)])
    for _ in compare([Run(task, "nan", methods["nan"])], tmp_path / "bad"):
        pass
    write_tables(tmp_path / "bad")
    text = write_report(tmp_path / "bad").read_text()
    assert "no method made an image" in text and Page(text).rows == 6


def test_windows_and_scales():
    image = np.array([[0.0206, 0.0206 * 1.08], [0.0, 0.05]])
    hu = in_unit(image, "HU", 0.0206)
    assert np.allclose(hu[0], [0, 80])
    assert np.asarray(grey(hu, 0, 80)).tolist() == [[0, 255], [0, 255]]
    colours = np.asarray(diverging(np.array([[-2.0, 0.0, 2.0]]), 1.0))[0]
    assert colours.tolist() == [[33, 102, 172], [247, 247, 247], [178, 24, 43]]
    assert shared_scale([np.full(50, 0.031), np.full(50, 0.044), np.full(50, 9.0)], 0.5) == 0.05
    assert shared_scale([np.full(50, 7.0)], 0.5) == 0.5
