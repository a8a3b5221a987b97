"""The command `recon`. PyTorch is imported by the subcommands, not here: help is quick."""

from __future__ import annotations

import click

from .compare import compare
from .doctor import doctor
from .errors import Group
from .listing import listing
from .reconstruct import reconstruct
from .report import report
from .simulate import simulate
from .train import train
from .translate import translate

HELP = """Tomographic image reconstruction: compare, train, report.

\b
recon compare      the built-in problems, into ./results
recon compare --problem head-lowdose --methods fbp,total-variation
recon simulate     low-dose projections and DICOM pairs of images
recon reconstruct  projections to DICOM or NIfTI images
recon translate    images to images by trained weights
recon list         problems and methods there are

Ends with 0 if all went well, 1 if an error stopped it or a method failed on an image (failures are rows
of the results, and the report is written all the same), 2 if it was called wrongly.
"""


@click.group(cls=Group, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hybrid-recon", prog_name="recon")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """The command `recon`."""


for command in (compare, train, simulate, reconstruct, translate, report, listing, doctor):
    main.add_command(command)
