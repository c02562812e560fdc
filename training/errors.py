"""What can go wrong in training, evaluation and export.

    TrainingError
    |-- ConfigError       a flag or preset that makes no sense
    |-- DataError         a data folder that is not what its reader expects
    |-- CheckpointError   a run that is missing, unfinished, damaged or not ours
    `-- DivergedError     a run whose loss is no longer a number

The command line prints the message as one sentence and exits with status 1.
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base of everything that a user of the training commands can mend."""


class ConfigError(TrainingError):
    """A setting is out of range or contradicts another."""


class DataError(TrainingError):
    """A data folder is missing something or holds something else."""


class CheckpointError(TrainingError):
    """A checkpoint can't be used."""


class DivergedError(TrainingError):
    """A loss or a weight is no longer a finite number."""
