"""Asks all engines about the same images and adds up what they answer."""

from __future__ import annotations

from collections.abc import Sequence

from verify.agreement import RejectedImage
from verify.decoding import DecodedImage
from verify.engines import ComparedEngine
from verify.report import VerificationReport
from verify.responses import Prediction, Rejection, Response
from verify.verdict import Criteria


class EngineComparison:
    """Engines against a reference, into a report with the agreement of each of them in order."""

    def __init__(
        self,
        reference: ComparedEngine,
        others: Sequence[ComparedEngine],
        criteria: Criteria,
        class_names: Sequence[str],
        report: VerificationReport,
    ) -> None:
        self._reference = reference
        self._others = others
        self._criteria = criteria
        self._class_names = class_names
        self._report = report

    async def add(self, images: Sequence[DecodedImage]) -> None:
        """Compare some images. One engine works at a time: they may share a machine's cores.

        Raises:
            VerificationError: if a server stops answering, or is of another model.
            RideError: if a graph fails.
        """
        expected = await self._reference.infer(images)
        responses = [await other.infer(images) for other in self._others]
        for image, answer, *others in zip(images, expected, *responses, strict=True):
            self._add(image, answer, others)

    def _add(
        self, image: DecodedImage, answer: Response | None, responses: Sequence[Response | None]
    ) -> None:
        report = self._report
        report.images += 1
        reference = image.pixels if isinstance(image.pixels, Rejection) else answer
        assert reference is not None, "what is decoded, the reference is asked about"
        if isinstance(reference, Rejection) and not any(
            isinstance(each, Prediction) for each in responses
        ):
            report.refused.add(RejectedImage(image.name, reference.reason))
            return
        for agreement, response in zip(report.engines, responses, strict=True):
            if response is not None:
                verdict = self._criteria.judge(reference, response)
                agreement.add(image.name, reference, response, verdict, self._class_names)
