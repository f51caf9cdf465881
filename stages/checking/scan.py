"""Read and decode every image in threads, and find what is wrong among them.

Shapes: N images of all splits together.
"""

import signal
import time
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from deit_pipe.stages.checking.findings import Finding
from deit_pipe.stages.checking.images import CheckedImages
from deit_pipe.stages.checking.one_image import ImageFacts, read_facts
from deit_pipe.stages.checking.same_images import alike_findings, same_findings
from deit_pipe.stages.checking.scan_state import ScanState
from deit_pipe.stages.console.errors import Terminated
from deit_pipe.stages.console.progress import note, progress
from deit_pipe.stages.machine.interrupts import deferred_stop

AT_ONCE = 16  # images that a thread takes
WAITING = 4  # such tasks ahead of each thread: their results are few bytes
KEEP_SECONDS = 2.0  # between writes of the state
Pieces = deque[tuple[list[int], "Future[list[ImageFacts]]"]]


class Scan:
    """What is known of every image, in 33 bytes each; words only where something is wrong.

    Attributes:
        contents: uint64 [N, 2], digests of the stored bytes.
        looks: uint64 [N].
        read: bool [N]; `readable` and `compared`: whether there is a content and a look.
        bad, odd: words by image.
    """

    def __init__(self, count: int) -> None:
        self.contents: NDArray[np.uint64] = np.zeros((count, 2), dtype=np.uint64)
        self.looks: NDArray[np.uint64] = np.zeros(count, dtype=np.uint64)
        self.read, self.readable, self.compared = (np.zeros(count, dtype=np.bool_) for _ in range(3))
        self.bad: dict[int, str] = {}
        self.odd: dict[int, str] = {}

    def add(self, image: int, facts: ImageFacts) -> None:
        """Keep what was found of an image."""
        self.read[image] = True
        if facts.content:
            self.readable[image] = True
            self.contents[image] = int(facts.content[:16], 16), int(facts.content[16:], 16)
        if facts.look is not None:
            self.compared[image] = True
            self.looks[image] = facts.look
        if facts.bad:
            self.bad[image] = facts.bad
        if facts.odd:
            self.odd[image] = facts.odd

    @property
    def not_compared(self) -> int:
        """How many decoded images are too small for their looks to say anything."""
        return int((self.read & ~self.compared).sum()) - len(self.bad)

    def findings(self, images: CheckedImages) -> list[Finding]:
        """Bad and odd images, the same ones, and those that look alike."""
        bad, odd = (
            [Finding(kind, (images.name(image),), words[image], (image,)) for image in sorted(words)]
            for kind, words in (("bad", self.bad), ("odd", self.odd))
        )
        same = same_findings(images, self.contents, self.readable)
        return [*bad, *same, *alike_findings(images, self.looks, self.compared, same), *odd]


def scan(images: CheckedImages, state: ScanState, threads: int) -> Scan:
    """Read all images that an earlier run has not read.

    Raises:
        KeyboardInterrupt: after what was read is kept.
        Terminated: likewise.
    """
    found = Scan(len(images))
    for image, facts in state.read():
        found.add(image, facts)
    done = int(found.read.sum())
    if done:
        note(f"{done:,} of {len(images):,} images were read before, as {state.file} says")
    waiting = np.flatnonzero(~found.read).tolist()
    kept: list[tuple[int, ImageFacts]] = []
    last = time.monotonic()
    with deferred_stop() as stop, progress("reading", len(images), "images", done=done) as shown:
        for pairs in _in_threads(images, waiting, threads):
            for image, facts in pairs:
                found.add(image, facts)
            kept += pairs
            shown.advance(len(pairs), f"{len(found.bad):,} bad" if found.bad else "")
            if stop.signal is not None or time.monotonic() - last > KEEP_SECONDS:
                state.write(kept)
                kept, last = [], time.monotonic()
            if stop.signal is not None:
                break
    if stop.signal is not None:
        state.close()
        note(f"{int(found.read.sum()):,} of {len(images):,} images are read; {state.file} keeps what was found")
        if stop.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated("terminated", cure="the same command goes on from here")
    state.remove()
    return found


def _in_threads(images: CheckedImages, waiting: list[int], threads: int) -> Iterator[list[tuple[int, ImageFacts]]]:
    """Facts in the order of the images, a few at a time."""

    def facts_of(piece: list[int]) -> list[ImageFacts]:
        return [read_facts(images, image) for image in piece]

    pieces = (waiting[start : start + AT_ONCE] for start in range(0, len(waiting), AT_ONCE))
    ahead: Pieces = deque()
    # Pillow warns of what is reported here as a finding; the filter is one for all threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")
        try:
            for piece in pieces:
                ahead.append((piece, pool.submit(facts_of, piece)))
                if len(ahead) >= WAITING * threads:
                    done, facts = ahead.popleft()
                    yield list(zip(done, facts.result(), strict=True))
            while ahead:
                done, facts = ahead.popleft()
                yield list(zip(done, facts.result(), strict=True))
        finally:
            pool.shutdown(cancel_futures=True)
