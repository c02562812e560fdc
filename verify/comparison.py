"""Asks all engines about the same images and adds up what they reply."""

from __future__ import annotations

from collections.abc import Sequence

from verify.engines import AskedEngine
from verify.judgement import Judge
from verify.preparation import PreparedImage
from verify.replies import Answer, Refusal, Reply
from verify.report import Report
from verify.tally import Refused


class Comparison:
    """Engines against a reference, into a report that has a tally for each of them in order."""

    def __init__(
        self,
        reference: AskedEngine,
        others: Sequence[AskedEngine],
        judge: Judge,
        class_names: Sequence[str],
        report: Report,
    ) -> None:
        self._reference = reference
        self._others = others
        self._judge = judge
        self._class_names = class_names
        self._report = report

    async def add(self, images: Sequence[PreparedImage]) -> None:
        """Compare some images. One engine works at a time: they may share a machine's cores.

        Raises:
            VerificationError: if a server stops answering, or is of another model.
            RideError: if a graph fails.
        """
        expected = await self._reference.ask(images)
        replies = [await other.ask(images) for other in self._others]
        for image, answer, *others in zip(images, expected, *replies, strict=True):
            self._add(image, answer, others)

    def _add(
        self, image: PreparedImage, answer: Reply | None, replies: Sequence[Reply | None]
    ) -> None:
        report = self._report
        report.images += 1
        reference = image.pixels if isinstance(image.pixels, Refusal) else answer
        assert reference is not None, "what is decoded, the reference is asked about"
        if isinstance(reference, Refusal) and not any(isinstance(each, Answer) for each in replies):
            report.refused.add(Refused(image.name, reference.reason))
            return
        for tally, reply in zip(report.engines, replies, strict=True):
            if reply is not None:
                judgement = self._judge.compare(reference, reply)
                tally.add(image.name, reference, reply, judgement, self._class_names)
