"""Random changes of training images."""

from training.augmentation.geometry import augment, resample, to_unit_range

__all__ = ["augment", "resample", "to_unit_range"]
