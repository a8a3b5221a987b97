"""How sure a method is: mean and spread, intervals that hold what they promise."""

from .base import Prediction as Prediction
from .base import Probabilistic as Probabilistic
from .base import prediction as prediction
from .bootstrap import ParametricBootstrap as ParametricBootstrap
from .calibration import calibration_curve as calibration_curve
from .calibration import coverage as coverage
from .committee import DeepEnsemble as DeepEnsemble
from .committee import MCDropout as MCDropout
from .conformal import Conformal as Conformal
from .heteroscedastic import HeteroscedasticUNet as HeteroscedasticUNet
from .heteroscedastic import gaussian_nll as gaussian_nll
