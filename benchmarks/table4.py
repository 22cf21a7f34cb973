"""What a step of each method costs at the paper's size: ``python -m benchmarks.table4``.

Beside Table 4's counts of weights and operations: measured time and memory. Each method's step
takes turns with vanilla's, so that a busy machine slows both. RollingQ stands there twice: with its
rotation, and with the rotation folded into the query map, as for use after training.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from benchmarks.full_step import Step, peak_bytes
from benchmarks.measure import interleaved_seconds
from rollingq_core.records import provenance, write_record

METHODS = ("mt", "mt+rollingq", "mbt", "mmml", "jmt")


def folded(step: Step) -> Step:
    """Return the step with its rotation folded away, and nothing watched."""
    fusion = step.model.fusion
    fusion.rotation.fold_into(fusion.q_proj)
    fusion.rotation, step.rolling = nn.Identity(), None
    return step


def measure(device: torch.device, batch: int, repetitions: int) -> list[dict]:
    """Return a row for each method: a training step and a forward pass, over vanilla's."""
    vanilla, rows = Step(device, batch), []
    for method in tqdm([*METHODS, "mt+rollingq, folded"], unit="method"):
        step = Step(device, batch, method=method.removesuffix(", folded"))
        step = folded(step) if method.endswith("folded") else step
        plain, taken = interleaved_seconds(
            _waited(vanilla, device), _waited(step, device), repetitions
        )
        answers = interleaved_seconds(
            _waited(vanilla.forward, device), _waited(step.forward, device), repetitions
        )
        rows.append(
            {
                "method": method,
                "step_seconds": taken,
                "step_ratio": taken / plain,
                "forward_seconds": answers[1],
                "forward_ratio": answers[1] / answers[0],
                "peak_mib": peak_bytes(step, device) / 2**20,
            }
        )
        del step
    return rows


def _waited(call, device: torch.device):
    def run() -> None:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write a record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table4")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="samples in a step")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the record")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = measure(device, options.batch, options.repetitions)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    path = options.out / f"table4-{device.type}.json"
    record = {
        "recipe": "table4",
        "command": f"python -m benchmarks.table4 --device {device.type} --batch {options.batch} "
        f"--repetitions {options.repetitions}",
        "config": {"batch": options.batch, "threads": torch.get_num_threads()},
        **provenance(gpu),
        "runs": rows,
    }
    write_record(path, record)
    for row in rows:
        print(row)
    print(path)


if __name__ == "__main__":
    main()
