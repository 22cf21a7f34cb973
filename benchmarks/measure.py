"""Measuring: interleaved medians of time, and the peak of tensor memory."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile


def interleaved_seconds(
    plain: Callable[[], object], ours: Callable[[], object], repetitions: int
) -> tuple[float, float]:
    """Return both medians; the two take turns, so that a busy machine slows both."""
    seconds = {plain: [], ours: []}
    for call in (plain, ours):
        call()
    for _ in range(repetitions):
        for call, taken in seconds.items():
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[plain]), statistics.median(seconds[ours])


def peak_tensor_bytes(
    call: Callable[[], object], release: Callable[[], object] = lambda: None
) -> int:
    """Return the largest sum of CPU tensor bytes that ``call`` holds at once.

    What a call leaves behind has to be freed before the next one, by ``release``: freed within it,
    it counts as less than nothing.
    """
    call()
    release()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as trace:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak
