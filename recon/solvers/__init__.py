"""Solvers: generators of iterates, the start first; `run` decides when to stop."""

from .algebraic import sart as sart
from .algebraic import sirt as sirt
from .algebraic import view_order as view_order
from .conjugate import cg as cg
from .conjugate import cgls as cgls
from .descent import fista as fista
from .descent import gradient_descent as gradient_descent
from .em import mlem as mlem
from .em import osem as osem
from .iterate import Iterate as Iterate
from .iterate import Trace as Trace
from .iterate import run as run
from .iterate import trace as trace
from .lbfgs import lbfgs as lbfgs
from .lsqr import lsqr as lsqr
from .minres import minres as minres
from .nmapg import nmapg as nmapg
from .nonlinear import Misfit as Misfit
from .nonlinear import gauss_newton as gauss_newton
from .nonlinear import levenberg_marquardt as levenberg_marquardt
from .nonlinear import nonlinear_gradient as nonlinear_gradient
from .on_disk import sart_on_disk as sart_on_disk
from .primal_dual import pdhg as pdhg
from .splitting import admm as admm
from .splitting import douglas_rachford as douglas_rachford
from .sqs import os_sqs as os_sqs
