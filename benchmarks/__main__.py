"""Print the ratios: ``python -m benchmarks``. Times differ by machine, ratios hardly."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import torch

from benchmarks.cremad_folder import clip_names, make_folder
from benchmarks.measure import interleaved_seconds, peak_tensor_bytes
from benchmarks.plain import PlainAttentionFusion, plain_rotation
from benchmarks.training_step import measured_rows
from rollingq_core import AttentionFusion, QueryRotation, svd_rotation
from rollingq_core.data import cremad, load_dataset, video
from rollingq_core.data.audio import CREMAD_CODE
from rollingq_core.rotation import plane_rotation
from rollingq_core.runs import prepare, train
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.settings import SETTINGS

# Videos where PyAV can write some; else the pictures that another tool has taken from them.
PICTURES = "flv" if video.available_decoder() == "pyav" else "jpg"
READ_BY = {"flv": "pyav", "jpg": "jpg"}
DIM, CLASSES, BATCH, AUDIO, VISUAL = 768, 6, 16, 177, 197


def fusion_steps() -> list:
    """Forward and backward of the textbook's layer and of ours, gradients of the tokens too."""
    tokens = [torch.randn(BATCH, length, DIM, requires_grad=True) for length in (AUDIO, VISUAL)]

    def step(layer):
        def run():
            layer(tokens).logits.square().sum().backward()
            # Nothing may outlive a call, or the next would start with its memory.
            for leaf in (*tokens, *layer.parameters()):
                leaf.grad = None

        return run

    return [step(kind(DIM, CLASSES)) for kind in (PlainAttentionFusion, AttentionFusion)]


def rotation_events(by_svd) -> list:
    """One event from expected query and anchor to the new R, by an SVD and in the plane."""
    query, anchor = torch.randn(2, DIM)
    plain, ours = QueryRotation(DIM), QueryRotation(DIM)
    return [
        lambda: plain.rotate(by_svd(query, anchor)),
        lambda: ours.rotate(plane_rotation(query, anchor)),
    ]


def sweeps() -> list:
    """Thirty-two runs of setting T, two epochs each, one at a time and as one batch."""
    data, setting = load_dataset("synthetic", seed=0), SETTINGS["T"]
    setting = replace(setting, training=replace(setting.training, epochs=2))

    def together():
        # Of different seeds, so that no two of them are the same run for a while.
        untrained = [prepare("mt+rollingq", data, setting, seed) for seed in range(32)]
        fit_replicas([Replica(p.model, data, p.config, p.observers) for p in untrained])

    def in_turn():
        for seed in range(32):
            train("mt+rollingq", data, setting=setting, seed=seed)

    return [in_turn, together]


def input_pipelines(folder: Path, kind: str) -> list:
    """Read an epoch of clips of 2.5 s, decoding them anew, and from the cache."""
    names = clip_names(48)
    root = make_folder(folder / "CREMA-D", names, seconds=2.5, flvs=kind == "flv")
    cremad.prepare(root, pictures=READ_BY[kind])
    clips = cremad.load(root=root).train
    batches = [range(start, start + 12) for start in range(0, len(clips) - 11, 12)]

    def decoded():
        for batch in batches:
            samples = [
                cremad.CREMAD.sample(names[index], root, READ_BY[kind], CREMAD_CODE)
                for index in batch
            ]
            for name, transform in clips.transforms.items():
                transform(torch.from_numpy(np.stack([sample[name] for sample in samples])))

    def cached():
        for batch in batches:
            clips.__getitems__(batch)

    return [decoded, cached]


def preparations(folder: Path) -> list:
    """Prepare 200 clips of 2.5 s with one process, and with one for each core."""
    root = make_folder(folder / "200 clips", clip_names(200), seconds=2.5, flvs=PICTURES == "flv")

    def preparing(jobs):
        def run():
            shutil.rmtree(root / "cache", ignore_errors=True)
            cremad.prepare(root, jobs=jobs, pictures=READ_BY[PICTURES])

        return run

    return [preparing(1), preparing(joblib.cpu_count())]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """Measure, with files in ``folder``, and print."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    fusion = fusion_steps()
    rows = []
    for name, calls, repetitions in (
        ("fusion layer, forward + backward", fusion, 7),
        ("rotation event, SVD in float64", rotation_events(svd_rotation), 15),
        # As published; at this size some of its results are reflections.
        ("rotation event, SVD in float32", rotation_events(plain_rotation), 15),
        ("32 small runs: in turn, as one batch", sweeps(), 1),
        # Both from the second epoch on, when all files are in the system's memory.
        *(
            (f"input: {kind} decoded, from the cache", input_pipelines(folder / kind, kind), 5)
            for kind in dict.fromkeys((PICTURES, "jpg"))
        ),
        (f"200 clips, by 1 and by {joblib.cpu_count()} processes", preparations(folder), 3),
    ):
        plain, ours = (1e3 * value for value in interleaved_seconds(*calls, repetitions))
        rows.append((name, f"{plain:.4g} ms", f"{ours:.4g} ms", plain / ours))
    plain, ours = (peak_tensor_bytes(call) / 2**20 for call in fusion)
    rows.insert(
        1, ("  its peak tensor memory", f"{plain:.4g} MiB", f"{ours:.4g} MiB", plain / ours)
    )
    rows += measured_rows()

    print(f"B={BATCH}, {AUDIO}+{VISUAL} tokens and the class token, d={DIM}, float32, one thread")
    print(f"{'':38}{'plain':>12}{'ours':>12}{'ratio':>9}")
    for name, plain, ours, ratio in rows:
        print(f"{name:38}{plain:>12}{ours:>12}{ratio:>8.{1 if ratio > 2 else 3}f}x")


if __name__ == "__main__":
    main()
