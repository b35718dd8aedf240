"""Published experiments that are no language models: one file each, and its line in `EXPERIMENTS`."""

from moebench.experiments import gaussians, vowels
from moebench.experiments.experiment import Experiment as Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "vowels": vowels.EXPERIMENT,
    "gaussians": gaussians.EXPERIMENT,
}
