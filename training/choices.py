"""What a training configuration chooses between."""

from __future__ import annotations

from enum import StrEnum


class Dataset(StrEnum):
    """The data sets that `training.data` reads."""

    CIFAR10 = "cifar10"
    CIFAR100 = "cifar100"
    IMAGENET_LT = "imagenet-lt"
    PLACES_LT = "places-lt"
    INATURALIST18 = "inaturalist18"
    IMAGE_FOLDER = "imagefolder"
    PARQUET = "parquet"


class Family(StrEnum):
    """The families that `training.backbones` cuts into a shared trunk and experts."""

    RESNET32 = "resnet32"
    RESNET32X4 = "resnet32x4"  # four times as wide, to learn from
    RESNET10 = "resnet10"
    RESNET50 = "resnet50"
    RESNET101 = "resnet101"
    RESNET152 = "resnet152"
    RESNEXT50 = "resnext50"
    SWIN_T = "swin-t"
    SWIN_S = "swin-s"
    CONVNEXT_T = "convnext-t"
    MOBILENET_V3 = "mobilenet-v3"


class Policy(StrEnum):
    """How training images are changed at random, besides crop and flip."""

    NONE = "none"  # nothing at all, no crop and no flip either
    STANDARD = "standard"  # CIFAR: rotation within 15 degrees; larger images: colour jitter
    AUTOAUGMENT = "autoaugment"  # Cubuk et al. 2019, the policies for CIFAR-10 and ImageNet
    RANDAUGMENT = "randaugment"  # Cubuk et al. 2020, 2 operations of magnitude 9


class BaseLoss(StrEnum):
    """The loss of one expert on its own."""

    LDAM = "ldam"
    CROSS_ENTROPY = "cross-entropy"
    FOCAL = "focal"
    BALANCED_SOFTMAX = "balanced-softmax"


class DiversityForm(StrEnum):
    """Which of the two published forms of the diversity loss is added."""

    MEAN = "mean"  # the authors' code: KL from the mean of all experts
    PAIRWISE = "pairwise"  # the paper, equation 2: KL between every two experts
    NONE = "none"


class DistillationForm(StrEnum):
    """Who imitates the mean of the teacher's experts."""

    MEAN = "mean"  # the mean of the student's: RIDE
    EACH = "each"  # every expert by itself, so that the first is good alone


class TemperatureForm(StrEnum):
    """Which of the two published forms of the distribution-aware temperature is used."""

    CODE = "code"
    PAPER = "paper"


class ScheduleForm(StrEnum):
    """How the learning rate falls after the warm-up."""

    STEPS = "steps"
    COSINE = "cosine"


class RouterKind(StrEnum):
    """The routers that can be served; `training.routers` has one module for each."""

    RIDE = "ride"  # RIDE, section 3.3
    DIFFERENCE = "difference"  # Jitkrittum et al. 2023: P(later right) - P(now right)
    MAX_PROBABILITY = "max-probability"
    MARGIN = "margin"
    ENTROPY = "entropy"
    AGREEMENT = "agreement"


class Precision(StrEnum):
    """Number format of the forward and backward passes; weights and updates stay fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


class OnUnreadable(StrEnum):
    """What to do about an image that can't be read."""

    STOP = "stop"
    SKIP = "skip"  # another image of the same batch takes its place
