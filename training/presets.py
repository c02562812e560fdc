"""The published settings, by name, every number with its source.

RIDE is Wang et al., ICLR 2021: the paper's appendix and the authors' released configurations.
"""

from __future__ import annotations

from dataclasses import replace

from training.choices import (
    BaseLoss,
    Dataset,
    DistillationForm,
    DiversityForm,
    Family,
    Policy,
    ScheduleForm,
)
from training.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AugmentationConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    TrainingConfig,
)
from training.errors import ConfigError

_CIFAR10_LT = TrainingConfig(
    preset="cifar10-lt",
    data=DataConfig(dataset=Dataset.CIFAR10),
    model=ModelConfig(num_classes=10, router_top_logits=10),
)

_CIFAR100_LT = TrainingConfig(preset="cifar100-lt")

# Ours, the recipe to ship. Balanced softmax (Ren et al. 2020) makes every expert good on its own,
# so that no prefix needs a correction; AutoAugment and Cutout for 400 epochs are what later work
# trains with (PaCo, BalPoE, MDCS); a moving average of the weights costs nothing when serving.
_CIFAR100_LT_STRONG = TrainingConfig(
    preset="cifar100-lt-strong",
    augmentation=AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=16),
    loss=LossConfig(
        base=BaseLoss.BALANCED_SOFTMAX, reweighting_epoch=None, diversity=DiversityForm.NONE
    ),
    optimiser=OptimiserConfig(
        epochs=400, schedule=ScheduleForm.COSINE, drop_epochs=(), ema_decay=0.999
    ),
)

# Ours: what the distilled recipe learns from. Four times as wide (resnet32x4, the usual teacher of
# small networks: Tian et al. 2020), trained on the same images; batches of 256 fill a GPU better.
_CIFAR100_LT_TEACHER = replace(
    _CIFAR100_LT_STRONG,
    preset="cifar100-lt-teacher",
    model=replace(_CIFAR100_LT.model, backbone=Family.RESNET32X4),
    optimiser=replace(_CIFAR100_LT_STRONG.optimiser, epochs=200, batch_size=256, learning_rate=0.2),
)

# Ours: every expert imitates the teacher's mean by itself, because an image that stops after the
# first has no other. Temperature 2 and the weight are between RIDE's 1.5 and 1 and the 4 and 9 that
# distillation of single networks uses (Tian et al. 2020); they were not tuned.
_CIFAR100_LT_DISTILLED = replace(
    _CIFAR100_LT_STRONG,
    preset="cifar100-lt-distilled",
    loss=replace(
        _CIFAR100_LT_STRONG.loss,
        distillation=DistillationForm.EACH,
        distillation_weight=2.0,
        distillation_temperature=2.0,
    ),
    optimiser=replace(_CIFAR100_LT_STRONG.optimiser, batch_size=256, learning_rate=0.2),
)

# Ours, the same for two CPU cores and two hours: images are small for two thirds of the epochs (Tan
# and Le 2021, progressive learning), and Cutout is gentler because there are fewer epochs.
_CIFAR100_LT_SHORT = replace(
    _CIFAR100_LT_STRONG,
    preset="cifar100-lt-short",
    augmentation=AugmentationConfig(policy=Policy.AUTOAUGMENT, cutout=8),
    optimiser=replace(
        _CIFAR100_LT_STRONG.optimiser,
        epochs=90,
        warmup_epochs=3,
        ema_decay=0.998,
        small_epochs=60,
        small_size=24,
    ),
)

# BalPoE, Aimar et al., CVPR 2023: the authors' configuration for standard training (200 epochs).
# They divide the loss by the number of experts, which we sum; a third of their learning rate (0.1)
# and three times their weight decay (5e-4) give the very same updates. They publish no router;
# RIDE's is taken.
_CIFAR100_LT_BALPOE = TrainingConfig(
    preset="cifar100-lt-balpoe",
    augmentation=AugmentationConfig(mixup_alpha=0.4),
    model=ModelConfig(reduced_width=False),
    loss=LossConfig(
        base=BaseLoss.CROSS_ENTROPY,
        prior_strengths=(0.0, 1.0, 2.0),
        reweighting_epoch=None,
        diversity=DiversityForm.NONE,
    ),
    optimiser=OptimiserConfig(learning_rate=0.1 / 3, weight_decay=3 * 5e-4, drop_factor=0.1),
)

# SADE, Zhang et al., NeurIPS 2022: the authors' configuration (tau 2 is the inverse strength). The
# weighting of experts at test time is left out, and RIDE's router is taken.
_CIFAR100_LT_SADE = TrainingConfig(
    preset="cifar100-lt-sade",
    loss=LossConfig(
        base=BaseLoss.CROSS_ENTROPY,
        prior_strengths=(0.0, 1.0, 1.0),
        inverse_prior_strengths=(0.0, 0.0, 2.0),
        reweighting_epoch=None,
        diversity=DiversityForm.NONE,
    ),
    optimiser=OptimiserConfig(drop_factor=0.1),
)

# RIDE's configurations imagenet_lt_resnext50_ride and, for the routers, .._ride_ea; those for
# ResNet-50 and ResNet-10 differ in what is replaced below.
_IMAGENET_LT = TrainingConfig(
    preset="imagenet-lt",
    data=DataConfig(
        dataset=Dataset.IMAGENET_LT,
        imbalance_factor=None,
        image_size=224,
        resize_shorter_side=256,
    ),
    augmentation=AugmentationConfig(color_jitter=0.4),
    model=ModelConfig(
        backbone=Family.RESNEXT50,
        num_classes=1000,
        pixel_mean=IMAGENET_MEAN,
        pixel_std=IMAGENET_STD,
        router_top_logits=50,
    ),
    loss=LossConfig(reweighting_epoch=80, diversity_weight=-0.2, temperature_gamma=0.02),
    optimiser=OptimiserConfig(
        epochs=100, batch_size=256, weight_decay=2e-4, drop_epochs=(60, 80), drop_factor=0.1
    ),
)

_IMAGENET_LT_RESNET50 = replace(
    _IMAGENET_LT,
    preset="imagenet-lt-resnet50",
    model=replace(_IMAGENET_LT.model, backbone=Family.RESNET50),
)

_IMAGENET_LT_RESNET10 = replace(
    _IMAGENET_LT,
    preset="imagenet-lt-resnet10",
    model=replace(_IMAGENET_LT.model, backbone=Family.RESNET10, router_top_logits=30),
)

# RIDE's configurations iNaturalist_resnet50_ride and .._ride_ea, and the pixel statistics in its
# loader. The data set leaves no images to choose thresholds on: give `data.holdout` a share where
# that is wanted.
_INATURALIST18 = replace(
    _IMAGENET_LT,
    preset="inaturalist18",
    data=replace(_IMAGENET_LT.data, dataset=Dataset.INATURALIST18),
    augmentation=AugmentationConfig(),
    model=replace(
        _IMAGENET_LT.model,
        backbone=Family.RESNET50,
        num_classes=8142,
        pixel_mean=(0.466, 0.471, 0.380),
        pixel_std=(0.195, 0.194, 0.192),
    ),
    loss=replace(_IMAGENET_LT.loss, temperature_gamma=0.015),
    optimiser=replace(_IMAGENET_LT.optimiser, batch_size=512, learning_rate=0.2),
)

# RIDE has no settings for Places-LT. Network, augmentation and schedule are those that SADE (Zhang
# et al., NeurIPS 2022) released, which compares itself with RIDE on this data set: ResNet-152 of
# full width from ImageNet weights, cosine classifiers, 30 epochs. Its cost (13.18 G multiply-adds
# for three experts, 11.56 for one) is that of experts with a layer4 of their own. There, only the
# classifiers have this learning rate and everything else a tenth of it, as far as the pretrained
# weights reach. The loss is RIDE's for ImageNet-LT, re-weighted after the same share of epochs.
_PLACES_LT = replace(
    _IMAGENET_LT,
    preset="places-lt",
    data=replace(_IMAGENET_LT.data, dataset=Dataset.PLACES_LT),
    model=replace(
        _IMAGENET_LT.model,
        backbone=Family.RESNET152,
        cut="layer4",
        num_classes=365,
        reduced_width=False,
    ),
    loss=replace(_IMAGENET_LT.loss, reweighting_epoch=24),
    optimiser=OptimiserConfig(
        epochs=30,
        batch_size=128,
        learning_rate=0.01,
        weight_decay=4e-4,
        warmup_epochs=0,
        drop_epochs=(10, 20),
        drop_factor=0.1,
    ),
)

# Ours, for images of one's own: no publication. Balanced softmax needs no milestones, and its
# experts are good on their own, which is what early exits want. The number of classes is that of
# the data, which is known when a run starts; a tenth of the training images is held out where
# there are no validation images.
_IMAGE_FOLDER = replace(
    _IMAGENET_LT,
    preset="imagefolder",
    data=replace(_IMAGENET_LT.data, dataset=Dataset.IMAGE_FOLDER, holdout=0.1),
    model=replace(
        _IMAGENET_LT.model, backbone=Family.RESNET50, num_classes=100, router_top_logits=30
    ),
    loss=LossConfig(
        base=BaseLoss.BALANCED_SOFTMAX, reweighting_epoch=None, diversity=DiversityForm.NONE
    ),
    optimiser=OptimiserConfig(
        epochs=100,
        batch_size=256,
        weight_decay=2e-4,
        schedule=ScheduleForm.COSINE,
        drop_epochs=(),
    ),
)

_PARQUET = replace(
    _IMAGE_FOLDER,
    preset="parquet",
    data=replace(_IMAGE_FOLDER.data, dataset=Dataset.PARQUET),
)

PRESETS = {
    config.preset: config
    for config in (
        _CIFAR10_LT,
        _CIFAR100_LT,
        _CIFAR100_LT_STRONG,
        _CIFAR100_LT_TEACHER,
        _CIFAR100_LT_DISTILLED,
        _CIFAR100_LT_SHORT,
        _CIFAR100_LT_BALPOE,
        _CIFAR100_LT_SADE,
        _IMAGENET_LT,
        _IMAGENET_LT_RESNET50,
        _IMAGENET_LT_RESNET10,
        _PLACES_LT,
        _INATURALIST18,
        _IMAGE_FOLDER,
        _PARQUET,
    )
}


def preset(name: str) -> TrainingConfig:
    """The settings under `name`.

    Raises:
        ConfigError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
