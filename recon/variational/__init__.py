"""Variational methods: a likelihood, a prior, a solver.

All minimise d(A x) + λ E(x) with d = −ln p(y | A x), so λ follows the dose, and E an integral over mm, so it
keeps its meaning when the pixel size changes. λ can be chosen without the truth: `recon.selection`.
"""

from .base import Solution as Solution
from .base import Variational as Variational
from .combined import VariationalReconstruction as VariationalReconstruction
from .generalised import TotalGeneralisedVariation as TotalGeneralisedVariation
from .low_rank import LocallyLowRankReconstruction as LocallyLowRankReconstruction
from .markov import PWLSQGGMRF as PWLSQGGMRF
from .markov import PWLSFair as PWLSFair
from .nonlocal_means import PWLSNonLocalMeans as PWLSNonLocalMeans
from .ordered_subsets import OSSQS as OSSQS
from .ordered_subsets import PWLSHuber as PWLSHuber
from .prior_image import PICCS as PICCS
from .smooth import HuberTotalVariation as HuberTotalVariation
from .smooth import Tikhonov as Tikhonov
from .total_variation import PWLSTotalVariation as PWLSTotalVariation
from .total_variation import TotalVariation as TotalVariation
from .wavelet import WaveletReconstruction as WaveletReconstruction
