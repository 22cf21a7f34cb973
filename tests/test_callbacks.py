"""RollingQ in Lightning's and Hugging Face's Trainers: what is saved is what was validated."""

import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from rollingq_core import AttentionFusion, RollingQ
from tests.small import assert_same_state

EPOCHS, DIM = 4, 8


def samples(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    audio = torch.randn(count, 3, DIM, generator=draw) + 4 * labels[:, None, None]
    visual = torch.randn(count, 2, DIM, generator=draw)
    rows = zip(audio, visual, labels, strict=True)
    return [{"audio": a, "visual": v, "labels": y} for a, v, y in rows]


TRAIN, VALIDATION = samples(32, 0), samples(16, 1)


class Network(nn.Module):
    """A fusion layer that observes its training batches, as README advises."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fusion = AttentionFusion(DIM, 2, cls_std=1.0)
        self.rolling = RollingQ(self.fusion, rho=3, beta=0.0, max_rotations=3)

    def forward(self, audio, visual, labels):
        output = self.fusion([audio, visual])
        if self.training:
            self.rolling.observe(output)
        return {"loss": nn.functional.cross_entropy(output.logits, labels), "logits": output.logits}


def validation_loss(network: Network) -> float:
    network.eval()
    with torch.no_grad():
        return float(network(**torch.utils.data.default_collate(VALIDATION))["loss"])


# The two libraries use names that torch deprecates, and advise more workers.
@pytest.mark.filterwarnings("ignore")
class TestLightning:
    @pytest.fixture(autouse=True)
    def quiet(self):
        pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def fit(self, folder, callback_class=None, epochs=EPOCHS, resume=None, max_steps=-1, **options):
        from lightning.pytorch import LightningModule, Trainer
        from lightning.pytorch.callbacks import ModelCheckpoint

        from rollingq_core.callbacks.lightning import RollingQCallback

        class Module(LightningModule):
            def __init__(self):
                super().__init__()
                self.network = Network()

            def training_step(self, batch, index):
                return self.network(**batch)["loss"]

            def validation_step(self, batch, index):
                self.log("validation_loss", self.network(**batch)["loss"])

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

        module = Module()
        saved = ModelCheckpoint(folder, "{epoch}-{validation_loss}", save_top_k=-1, **options)
        trainer = Trainer(
            max_epochs=epochs,
            max_steps=max_steps,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=1,
            callbacks=[saved, (callback_class or RollingQCallback)(module.network.rolling)],
        )
        loaders = DataLoader(TRAIN, 8), DataLoader(VALIDATION, 16)
        trainer.fit(module, *loaders, ckpt_path=resume)
        return module, trainer

    def reloaded_losses(self, folder):
        """The validation loss in each checkpoint's name, and that of its weights."""
        for path in sorted(folder.glob("epoch=*")):
            named = float(path.stem.split("validation_loss=")[1].split("-")[0])
            network = Network()
            state = torch.load(path, weights_only=True)["state_dict"]
            network.load_state_dict({k.removeprefix("network."): v for k, v in state.items()})
            yield named, validation_loss(network)

    def test_a_saved_model_is_the_validated_one(self, tmp_path):
        module, trainer = self.fit(tmp_path)
        losses = [*self.reloaded_losses(tmp_path)]
        assert len(losses) == EPOCHS
        assert [found for _, found in losses] == pytest.approx([named for named, _ in losses])
        assert [event.epoch for event in module.network.rolling.events] == [0, 1, 2]
        assert trainer.callback_metrics["rollingq/count"] == 3
        assert -2 <= trainer.callback_metrics["rollingq/air"] <= 2

    def test_a_turn_in_on_train_epoch_end_would_save_another_model(self, tmp_path):
        from lightning.pytorch import Callback

        class Naive(Callback):
            def __init__(self, rolling):
                self.rolling = rolling

            def on_train_epoch_end(self, *_):
                self.rolling.end_epoch()

        self.fit(tmp_path, Naive, save_on_train_epoch_end=True)
        named, found = zip(*self.reloaded_losses(tmp_path), strict=True)
        assert max(abs(a - b) for a, b in zip(named, found, strict=True)) > 0.01

    def test_a_resumed_run_turns_as_one_that_was_not_stopped(self, tmp_path):
        whole, _ = self.fit(tmp_path / "whole")
        self.fit(tmp_path / "stopped", epochs=2)
        (last,) = (tmp_path / "stopped").glob("epoch=1-*")
        resumed, _ = self.fit(tmp_path / "resumed", resume=last)
        assert_same_state(resumed.state_dict(), whole.state_dict())
        assert resumed.network.rolling.events == whole.network.rolling.events

    def test_a_run_stopped_within_an_epoch_keeps_what_it_observed(self, tmp_path):
        # Four batches of eight an epoch: the sixth is in the middle of the second.
        self.fit(tmp_path, epochs=2, every_n_train_steps=6, monitor=None)
        (middle,) = tmp_path.glob("epoch=1-*")
        states = torch.load(middle, weights_only=True)["callbacks"]
        state = states["RollingQCallback[rollingq]"]
        assert state["processes"][0]["sums"]["count"] == 16

    def test_an_epoch_cut_short_is_not_closed(self, tmp_path):
        module, _ = self.fit(tmp_path, epochs=-1, max_steps=6)
        assert [event.epoch for event in module.network.rolling.events] == [0]

    def test_the_older_name_of_the_library_takes_the_callback(self, tmp_path):
        older = pytest.importorskip("pytorch_lightning", reason="not installed")
        from rollingq_core.callbacks.lightning import RollingQCallback

        class Module(older.LightningModule):
            def __init__(self):
                super().__init__()
                self.network = Network()

            def training_step(self, batch, index):
                return self.network(**batch)["loss"]

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        module = Module()
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        trainer = older.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[RollingQCallback(module.network.rolling)],
        )
        trainer.fit(module, DataLoader(TRAIN, 8))
        assert [event.epoch for event in module.network.rolling.events] == [0, 1]


@pytest.mark.filterwarnings("ignore")
class TestHuggingFace:
    @pytest.fixture(autouse=True)
    def quiet(self):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        pytest.importorskip("accelerate", reason="accelerate is not installed")
        transformers.logging.set_verbosity_error()

    def fit(self, folder, epochs=EPOCHS, resume=None, **options):
        from transformers import Trainer, TrainingArguments

        from rollingq_core.callbacks.huggingface import RollingQCallback

        settings = {"eval_strategy": "epoch", "save_strategy": "epoch"} | options
        network = Network()
        arguments = TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=epochs,
            lr_scheduler_type="constant",
            per_device_train_batch_size=8,
            per_device_eval_batch_size=16,
            learning_rate=0.05,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
            **settings,
        )
        trainer = Trainer(
            network,
            arguments,
            train_dataset=TRAIN,
            eval_dataset=VALIDATION,
            callbacks=[RollingQCallback(network.rolling)],
        )
        trainer.train(resume_from_checkpoint=resume)
        return network, trainer

    def assert_saved_is_evaluated(self, folder, trainer, checkpoints):
        from safetensors.torch import load_file

        losses = {
            row["step"]: row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row
        }
        found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
        assert len(found) == checkpoints
        for path in found:
            network = Network()
            network.load_state_dict(load_file(path / "model.safetensors"))
            assert validation_loss(network) == pytest.approx(losses[int(path.name[11:])], abs=1e-6)

    @pytest.mark.parametrize(
        "strategy", [{}, {"eval_strategy": "steps", "save_strategy": "steps"}], ids=str
    )
    def test_a_saved_model_is_the_evaluated_one(self, tmp_path, strategy):
        steps = {"eval_steps": 2, "save_steps": 2} if strategy else {}
        network, trainer = self.fit(tmp_path, **strategy, **steps)
        self.assert_saved_is_evaluated(tmp_path, trainer, EPOCHS * (2 if strategy else 1))
        assert [event.epoch for event in network.rolling.events] == [0, 1, 2]

    @pytest.mark.parametrize(("step", "saved"), [(8, "epoch"), (6, "steps"), (8, "steps")])
    def test_a_resumed_run_turns_as_one_that_was_not_stopped(self, tmp_path, step, saved):
        strategy = {"save_strategy": saved, "eval_strategy": "no", "save_steps": 2}
        whole, _ = self.fit(tmp_path, **strategy)
        resumed, _ = self.fit(tmp_path, resume=str(tmp_path / f"checkpoint-{step}"), **strategy)
        assert_same_state(resumed.state_dict(), whole.state_dict())
        assert resumed.rolling.events == whole.rolling.events

    def test_resuming_without_the_file_goes_on_by_the_weights_and_says_so(self, tmp_path):
        whole, _ = self.fit(tmp_path)
        (tmp_path / "checkpoint-8" / "rollingq.pt").unlink()
        with pytest.warns(UserWarning, match=r"got no .*rollingq\.pt"):
            resumed, _ = self.fit(tmp_path, resume=str(tmp_path / "checkpoint-8"))
        assert_same_state(resumed.state_dict(), whole.state_dict())
        assert [event.epoch for event in resumed.rolling.events] == [2]

    def test_an_epoch_cut_short_is_not_closed(self, tmp_path):
        network, _ = self.fit(tmp_path, max_steps=6)
        assert [event.epoch for event in network.rolling.events] == [0]


def test_sums_of_other_processes_are_left_out(monkeypatch):
    from rollingq_core.callbacks.state import restore_own, shared_state

    network = Network()
    network(**torch.utils.data.default_collate(TRAIN))
    state = shared_state(network.rolling)
    restore_own(network.rolling, state)
    assert network.rolling.running.sums
    with pytest.warns(UserWarning, match="sums of 2 processes, expected those of 1"):
        restore_own(network.rolling, {"processes": state["processes"] * 2})
    assert not network.rolling.running.sums
