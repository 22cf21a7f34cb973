"""A step and an epoch at the paper's size: ``python -m benchmarks.full_step --device cuda``.

The published procedure (full self-attention, float32, three backward passes, a second pass over the
training data and an SVD for the rotation) against ours, in several precisions, eager and compiled.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from benchmarks.measure import peak_tensor_bytes
from benchmarks.plain import PlainAttentionFusion, plain_rotation
from benchmarks.training_step import SHAPES, STEPS
from rollingq_core import QueryRotation, RollingQ
from rollingq_core.data import DataSplits, PairedDataset
from rollingq_core.methods import METHODS
from rollingq_core.models.paper import build_paper_model
from rollingq_core.records import provenance, write_record
from rollingq_core.rotation import plane_rotation
from rollingq_core.settings import PAPER
from rollingq_core.training.optimisation import sgd

CLASSES, DIM = tuple("abcdef"), 768


class Step:
    """A training step on random inputs of the paper's sizes.

    Parameters
    ----------
    device, batch
        Where, and how many samples.
    precision
        ``"float32"`` or ``"bfloat16"`` (autocast).
    fusion
        ``"ours"`` or ``"textbook"``.
    compiled, published
        Whether to compile the model, and to go back once for each loss, as the published code does.
    method
        Whose fusion ``"ours"`` is; one that turns also watches the query, and has turned it once.
    """

    def __init__(
        self,
        device: torch.device,
        batch: int,
        precision: str = "float32",
        fusion: str = "ours",
        *,
        compiled: bool = False,
        published: bool = False,
        method: str = "mt",
    ) -> None:
        torch.manual_seed(0)
        self.labels = torch.arange(batch) % len(CLASSES)
        self.inputs = {name: torch.randn(batch, *shape) for name, shape in SHAPES.items()}
        split = PairedDataset(self.inputs, self.labels)
        patch = dict.fromkeys(SHAPES, (16, 16))
        data = DataSplits("random", split, split, split, CLASSES, patch, "")
        model = build_paper_model(data, fusion=METHODS[method].fusion)
        if fusion == "textbook":  # its dropout is left out, which costs next to nothing
            model.fusion = PlainAttentionFusion(DIM, len(CLASSES))
        model.to(device)
        self.labels = self.labels.to(device)
        self.inputs = {name: x.to(device) for name, x in self.inputs.items()}
        self.optimizer = sgd(model.parameters(), PAPER.training)
        self.model = torch.compile(model) if compiled else model
        self.cast = torch.autocast(
            device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"
        )
        self.published, self.rolling = published, None
        if METHODS[method].turns:
            model.fusion.rotation.rotate(plane_rotation(*torch.randn(2, DIM)))
            self.rolling = RollingQ(model.fusion, PAPER.rho, PAPER.beta, PAPER.max_rotations)

    def __call__(self) -> None:
        """Take the step."""
        with self.cast:
            output = self.model(self.inputs)
            losses = [
                cross_entropy(logits, self.labels)
                for logits in (output.fusion.logits, *output.probes.values())
            ]
            loss = losses[0] if self.published else sum(losses)
        self.optimizer.zero_grad()
        loss.backward(retain_graph=self.published)
        for other in losses[1:] if self.published else ():
            other.backward(retain_graph=True)
        self.optimizer.step()
        if self.rolling is not None:
            self.rolling.observe(output.fusion)

    @torch.no_grad()
    def forward(self) -> None:
        """Run the model alone, as the published code's second pass does."""
        with self.cast:
            self.model(self.inputs)


def seconds(call: Callable[[], object], device: torch.device, repetitions: int) -> float:
    """Return the median time of a call; an accelerator is waited for."""
    taken = []
    for _ in range(repetitions + 2):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[2:])  # the first ones compile and fill caches


def peak_bytes(step: Step, device: torch.device) -> int:
    """Return the peak of tensor memory during a step, weights and optimiser included on a GPU."""
    if device.type != "cuda":
        return peak_tensor_bytes(step, step.optimizer.zero_grad)
    step.optimizer.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def measure(device: torch.device, batch: int, repetitions: int, compiled: bool) -> list[dict]:
    """Return a row for each way to train."""
    ways = [{"fusion": "textbook", "published": True}, {"fusion": "textbook"}, {}]
    if device.type == "cuda":  # a processor without such numbers takes minutes for a step
        ways += [{"precision": "bfloat16"}]
    if compiled:
        ways += [{"compiled": True}, {"compiled": True, "precision": "bfloat16"}]
    query, anchor = torch.randn(2, DIM)
    rows = []
    for way in tqdm(ways, unit="way"):
        step = Step(device, batch, **way)
        taken = seconds(step, device, repetitions)
        module = QueryRotation(DIM).to(device)
        if way.get("published"):
            turn = seconds(
                lambda m=module: m.rotate(plain_rotation(query, anchor).to(device)), device, 3
            )
            turn += STEPS * seconds(step.forward, device, repetitions)
        else:
            turn = seconds(
                lambda m=module: m.rotate(plane_rotation(query, anchor)), device, repetitions
            )
        rows.append(
            {
                "fusion": way.get("fusion", "ours"),
                "precision": way.get("precision", "float32"),
                "compiled": way.get("compiled", False),
                "published": way.get("published", False),
                "step_seconds": taken,
                "samples_per_second": batch / taken,
                "rotation_seconds": turn,
                "epoch_seconds": STEPS * taken + turn,
                "peak_mib": peak_bytes(step, device) / 2**20,
            }
        )
        del step
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write a record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="samples in a step")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the record")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = measure(device, options.batch, options.repetitions, not options.no_compile)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    path = options.out / f"full-step-{device.type}.json"
    record = {
        "recipe": "full_step",
        "command": f"python -m benchmarks.full_step --device {device.type} --batch {options.batch} "
        f"--repetitions {options.repetitions}" + " --no-compile" * options.no_compile,
        "config": {"batch": options.batch, "threads": torch.get_num_threads()},
        "steps_of_an_epoch": STEPS,
        **provenance(gpu),
        "runs": rows,
    }
    write_record(path, record)
    for row in rows:
        print(row)
    print(path)


if __name__ == "__main__":
    main()
