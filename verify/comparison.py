"""Asks all engines about the same images and adds up what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verify.agreement import RejectedImage
from verify.decoding import DecodedImage
from verify.engines import ComparedEngine
from verify.report import VerificationReport
from verify.responses import Prediction, Rejection, Response
from verify.verdict import Criteria


@dataclass(frozen=True)
class EngineComparison:
    """Engines against a reference, into a report with the agreement of each of them in order."""

    reference: ComparedEngine
    others: Sequence[ComparedEngine]
    criteria: Criteria
    class_names: Sequence[str]
    report: VerificationReport

    async def add(self, images: Sequence[DecodedImage]) -> None:
        """Compare some images. One engine works at a time: they may share a machine's cores.

        Raises:
            VerificationError: if a server stops answering, or is of another model.
            RideError: if a graph fails.
        """
        expected = await self.reference.infer(images)
        responses = [await other.infer(images) for other in self.others]
        for image, answer, *others in zip(images, expected, *responses, strict=True):
            self._add(image, answer, others)

    def _add(
        self, image: DecodedImage, answer: Response | None, responses: Sequence[Response | None]
    ) -> None:
        self.report.images += 1
        reference = image.pixels if isinstance(image.pixels, Rejection) else answer
        assert reference is not None, "what is decoded, the reference is asked about"
        answered = any(isinstance(each, Prediction) for each in responses)
        if isinstance(reference, Rejection) and not answered:
            self.report.refused.add(RejectedImage(image.name, reference.reason))
            return
        for agreement, response in zip(self.report.engines, responses, strict=True):
            if response is not None:
                verdict = self.criteria.judge(reference, response)
                agreement.add(image.name, reference, response, verdict, self.class_names)
