"""Diffusion priors: their training, and samplers of the posterior."""

from .noise import Levels as Levels
from .noise import sample_prior as sample_prior
from .samplers import DDS as DDS
from .samplers import DPS as DPS
from .samplers import DiffPIR as DiffPIR
from .samplers import MomentMatching as MomentMatching
from .training import DiffusionConfig as DiffusionConfig
from .training import train_diffusion as train_diffusion
