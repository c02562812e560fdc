"""Random changes of training images."""

from training.augmentation.batch import augment_batch
from training.augmentation.geometry import to_unit_range

__all__ = ["augment_batch", "to_unit_range"]
