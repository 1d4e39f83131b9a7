"""Merged inference: f(sum_t beta_t(x) theta_t, x), exactly, on unmodified models.

Every query has a merged network of its own, and many of them run at once: see `network`. Running
statistics of BatchNorm are mixed like parameters, or estimated again on calibration inputs.
"""

from __future__ import annotations

from neulig_fl.merging.inference.batch_norm import recalibrated as recalibrated
from neulig_fl.merging.inference.mixture import NotCovered as NotCovered
from neulig_fl.merging.inference.network import Merging as Merging
from neulig_fl.merging.inference.network import superposed as superposed
from neulig_fl.merging.inference.queries import merged_outputs as merged_outputs
from neulig_fl.merging.inference.stack import ExpertStack as ExpertStack
