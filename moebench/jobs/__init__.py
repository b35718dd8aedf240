"""What is carried out: one file a kind of job.

A kind says which jobs of it a plan has and how one is carried out. Another is its file and a line in `KINDS`. Importing
this package loads no torch.
"""

from moebench.jobs.calibrate import CALIBRATE
from moebench.jobs.evaluate import EVALUATE
from moebench.jobs.experiment import EXPERIMENT
from moebench.jobs.imported import IMPORT
from moebench.jobs.kind import Kind
from moebench.jobs.load import LOAD
from moebench.jobs.replay import REPLAY
from moebench.jobs.speed import SPEED
from moebench.jobs.train import TRAIN
from moebench.jobs.transform import TRANSFORM

KINDS: dict[str, Kind] = {
    "train": TRAIN,
    "transform": TRANSFORM,
    "replay": REPLAY,
    "load": LOAD,
    "import": IMPORT,
    "experiment": EXPERIMENT,
    "evaluate": EVALUATE,
    "speed": SPEED,
    "calibrate": CALIBRATE,
}
"""Word -> kind, each after those whose jobs it starts from."""
