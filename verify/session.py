"""What `ride verify` does, apart from reading its flags."""

from __future__ import annotations

import asyncio
import datetime
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version

import onnxruntime
from rich.console import Console

from scoring.progress import images_bar
from serving.dataplane.catalogue import Catalogue, ModelDescription
from serving.engine.graphs import Engine, load_engine
from serving.files import replacing
from serving.model.manifest import MODEL_NAME, SELF_ROUTING_MODEL_NAME
from serving.tracing.terminal import escaped
from verify.agreement import EngineAgreement
from verify.comparison import EngineComparison
from verify.decoding import decoded_batches
from verify.engines import ClassifyPixels, ComparedEngine, LocalEngine, RemoteModel
from verify.images import ImageSource, open_images
from verify.report import Setup, VerificationReport
from verify.request import REFERENCE, VerificationRequest
from verify.server import connect
from verify.verdict import Criteria


def verify_session(request: VerificationRequest, console: Console) -> VerificationReport:
    """Compare, show and write what was found.

    Raises:
        TrainingError: if the images, the run or the server is at fault.
        RideError: if the repository can't be served.
        KeyboardInterrupt: after what was found up to there was shown; nothing is written then.
    """
    request.check()
    images = open_images(request.images, request.column)
    engine = load_engine(request.repository)
    classify_torch = None
    if request.run is not None:
        # torch is slow to import, and serving does without it
        from verify.torch_engine import load_torch  # noqa: PLC0415 needs torch

        classify_torch = load_torch(request.run, engine.manifest)
    report = asyncio.run(_verify(request, images, engine, classify_torch, console))
    report.show(console)
    for path, text in ((request.report, report.to_markdown()), (request.json, report.to_json())):
        if path is not None:
            with replacing(path) as file:
                file.write(text.encode())
    return report


async def _verify(
    request: VerificationRequest,
    images: ImageSource,
    engine: Engine,
    classify_torch: ClassifyPixels | None,
    console: Console,
) -> VerificationReport:
    manifest = engine.manifest
    about = _setup(request, engine)
    others: list[ComparedEngine] = []
    async with AsyncExitStack() as stack:
        if classify_torch is not None:
            others.append(LocalEngine("torch", classify_torch))
        if request.server is not None:
            models = [_description(engine, name) for name in request.model_names]
            server = await stack.enter_async_context(connect(request.server, models))
            about = replace(about, server=f"{server.name} {server.version}")
            others += [RemoteModel(server, model) for model in models]
        report = VerificationReport(about, [EngineAgreement(other.name) for other in others])
        rule = engine.rule()
        reference = LocalEngine(REFERENCE, lambda pixels: engine.classify(pixels, rule))
        criteria = Criteria(manifest.thresholds, request.tolerance)
        comparison = EngineComparison(reference, others, criteria, manifest.class_names, report)
        batches = decoded_batches(images, manifest.image)
        try:
            with images_bar(console) as progress:
                task = progress.add_task("comparing", total=len(images))
                while batch := await asyncio.to_thread(next, batches, None):
                    await comparison.add(batch)
                    progress.advance(task, len(batch))
        except asyncio.CancelledError:  # Ctrl-C
            console.print(f"Stopped after {report.images:,} of {len(images):,} images. So far:")
            report.show(console)
            raise
    return report


def _description(engine: Engine, name: str) -> ModelDescription:
    catalogue = Catalogue(engine)
    if name == SELF_ROUTING_MODEL_NAME:  # which takes and answers what `ride` does
        return replace(catalogue.find(MODEL_NAME, None), name=name)
    return catalogue.find(name, None)


def _setup(request: VerificationRequest, engine: Engine) -> Setup:
    return Setup(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        command=escaped(request.command),
        images_from=escaped(str(request.images)),
        repository=escaped(str(request.repository)),
        model_version=engine.version,
        tolerance=request.tolerance,
        versions={
            "ride-server": version("ride-server"),
            "onnxruntime": onnxruntime.__version__,
            **({} if request.run is None else {"torch": version("torch")}),
        },
    )
