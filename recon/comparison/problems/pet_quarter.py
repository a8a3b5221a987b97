"""A quarter of the counts of a PET scan of the head: image to image."""

from __future__ import annotations

from ...data.tasks import CountPairs
from ..task import Task
from ..translation import translation_task


def task() -> Task:
    """The problem `pet-quarter`."""
    pairs = CountPairs()
    return translation_task(
        pairs,
        "PET of a quarter of the counts",
        4.0,  # lesions add up to 4 times the activity of grey matter, less where pixels average them
        notes={
            "counts": f"{pairs.counts:.3g} true events in the whole scan of a slice, {pairs.background:.0%} "
            f"of that background; {pairs.share:.0%} of the events are kept, each at random",
            "truth": "the activity, mean over pixels, synthetic",
        },
    )
