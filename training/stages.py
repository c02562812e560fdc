"""What each stage of a run learns: experts, then classifiers, then routers.

A stage is a module whose `forward` turns a batch into a loss, so that DistributedDataParallel can
wrap it like any other; only the parameters that it trains require gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.augmentation.mixup import mixup
from training.backbones import COSINE_SCALE
from training.backbones.classifier import CosineClassifier
from training.batches import class_balanced_sample, seed_of, shuffled
from training.choices import RouterKind
from training.config import ClassifierConfig, OptimiserConfig, RouterConfig, TrainingConfig
from training.data import LabelledImages
from training.data.loading import Batch
from training.device import ComputeDevice, FullBatches
from training.losses.ride import RideLoss
from training.losses.targets import Targets
from training.model import RideModel, prefix_means
from training.routers.ride import router_loss
from training.schedule import cosine, learning_rate

StepResult = tuple[Tensor, Tensor]
"""The loss of a batch, and the share of its images that the mean of all experts gets right."""


@dataclass(frozen=True)
class StageTraining:
    """How one stage is trained.

    Attributes:
        module: called with a batch, the epoch and a seed; returns a `StepResult`.
        settings: optimiser, epochs and batch size.
        rate: learning rate at an epoch, a step and so many steps an epoch.
        order: the rows of an epoch, from images and a seed.
        image_size: side of the images in an epoch, pixels.
        accumulate: parts that a batch is worked off in.
        ema_decay: of the moving average that becomes the model at the end; 0 for none.
    """

    module: nn.Module
    settings: OptimiserConfig | ClassifierConfig | RouterConfig
    rate: Callable[[int, int, int], float]
    order: Callable[[LabelledImages, int], Tensor]
    image_size: Callable[[int], int]
    accumulate: int = 1
    ema_decay: float = 0.0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the stage trains."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]


class Teacher:
    """A finished model that the experts imitate; always in eval mode, and never trained."""

    def __init__(self, model: RideModel, compute: ComputeDevice) -> None:
        self._run = FullBatches(compute.place(model).eval())
        self._compute = compute

    def mean_logits(self, images: Tensor) -> Tensor:
        """The mean of all its experts, fp32 [N, C]."""
        with torch.no_grad(), self._compute.autocast():
            logits: Tensor = self._run(images).logits
        return logits.mean(dim=0)


class ExpertStage(nn.Module):
    """Stage one: backbone and experts, jointly (RIDE, section 3.2)."""

    def __init__(
        self,
        model: RideModel,
        config: TrainingConfig,
        class_counts: Sequence[int],
        compute: ComputeDevice,
        teacher: Teacher | None,
    ) -> None:
        super().__init__()
        self.model = model
        self._run = FullBatches(model)
        self._alpha = config.augmentation.mixup_alpha
        self._compute = compute
        self._teacher = teacher
        scale = COSINE_SCALE if config.model.cosine_classifier else 1.0
        self._loss = RideLoss(
            config.loss, tuple(class_counts), config.model.num_experts, scale, compute.device
        )
        _train_only(model, [*model.backbone.parameters(), *model.experts.parameters()])
        model.train()

    def forward(self, batch: Batch, epoch: int, seed: int) -> StepResult:
        images, targets = batch.views[0], Targets(batch.labels)
        if self._alpha:
            generator = torch.Generator().manual_seed(seed_of(seed, 1))
            mixed = mixup(images, batch.labels, self._alpha, generator)
            images, targets = mixed.images, Targets(batch.labels, mixed.partner_labels, mixed.share)
        teacher_mean = None if self._teacher is None else self._teacher.mean_logits(images)
        with self._compute.autocast():
            logits = self._run(torch.cat((images, *batch.views[1:]))).logits
        logits, weak = logits[:, : len(images)], logits[:, len(images) :]
        loss = self._loss(
            logits,
            targets,
            epoch,
            weak_logits=weak if len(batch.views) > 1 else None,
            teacher_mean=teacher_mean,
        )
        return loss, _share_right(logits.mean(dim=0), batch.labels)


class ClassifierStage(nn.Module):
    """Classifier retraining, cRT (Kang et al. 2020, section 4.2): the features stay as they are."""

    def __init__(self, model: RideModel, compute: ComputeDevice) -> None:
        super().__init__()
        self.model = model
        self._compute = compute
        _train_only(
            model, [p for classifier in _classifiers(model) for p in classifier.parameters()]
        )
        model.eval()

    def forward(self, batch: Batch, _epoch: int, _seed: int) -> StepResult:
        with self._compute.autocast():  # not compiled: few epochs, of one pass each
            logits = self.model.forward(batch.views[0]).logits
        losses = [F.cross_entropy(expert, batch.labels) for expert in logits]
        return torch.stack(losses).sum(), _share_right(logits.mean(dim=0), batch.labels)


class RouterStage(nn.Module):
    """Stage two: RIDE's routers, everything else frozen (RIDE, section 3.3)."""

    def __init__(
        self, model: RideModel, config: RouterConfig, corrections: Tensor, compute: ComputeDevice
    ) -> None:
        super().__init__()
        self.model = model
        self._config = config
        self._corrections = corrections.to(compute.device)
        self._compute = compute
        _train_only(model, model.routers.parameters())
        model.eval()

    def forward(self, batch: Batch, _epoch: int, _seed: int) -> StepResult:
        with torch.no_grad(), self._compute.autocast():  # not compiled, as above
            outputs = self.model.forward(batch.views[0])
        prefixes = prefix_means(outputs.logits, self._corrections)
        loss = router_loss(
            self.model.routers, outputs.embeddings, prefixes, batch.labels, self._config
        )
        return loss, _share_right(prefixes[-1], batch.labels)


def expert_training(
    model: RideModel,
    config: TrainingConfig,
    class_counts: Sequence[int],
    compute: ComputeDevice,
    teacher: Teacher | None,
) -> StageTraining:
    """Stage one."""
    settings = config.optimiser
    full = config.data.image_size
    return StageTraining(
        module=ExpertStage(model, config, class_counts, compute, teacher),
        settings=settings,
        rate=lambda epoch, _step, _steps: learning_rate(settings, epoch),
        order=shuffled,
        image_size=lambda epoch: settings.small_size if epoch < settings.small_epochs else full,
        accumulate=settings.accumulate,
        ema_decay=settings.ema_decay,
    )


def balanced_training(
    module: nn.Module, settings: ClassifierConfig | RouterConfig, image_size: int
) -> StageTraining:
    """A stage after the experts': class-balanced batches, the rate falling to 0 along a cosine."""

    def rate(epoch: int, step: int, steps: int) -> float:
        done = (epoch * steps + step) / (settings.epochs * steps)
        return settings.learning_rate * cosine(done)

    return StageTraining(module, settings, rate, class_balanced_sample, lambda _: image_size)


def learns_routers(config: TrainingConfig) -> bool:
    """Whether the run ends with stage two; other routers are fitted by `ride route`."""
    return config.model.num_experts > 1 and config.model.router_kind is RouterKind.RIDE


def reset_classifiers(model: RideModel, seed: int) -> None:
    """Fresh classifiers, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for classifier in _classifiers(model):
            classifier.reset_parameters()


def normalise_classifiers(model: RideModel, tau: float) -> None:
    """tau-normalisation of linear classifiers, w_k / |w_k|^tau (Kang et al. 2020, section 4.3)."""
    with torch.no_grad():
        for classifier in _classifiers(model):
            weight = classifier.weight
            weight.div_(weight.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau)


def _classifiers(model: RideModel) -> list[CosineClassifier | nn.Linear]:
    classifiers = []
    for expert in model.experts:
        classifier = expert.classifier
        assert isinstance(classifier, CosineClassifier | nn.Linear)
        classifiers.append(classifier)
    return classifiers


def _train_only(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_()


def _share_right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(dim=1) == labels).float().mean()
