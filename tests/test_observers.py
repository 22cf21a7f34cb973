"""What stands beside the training loop: which hook is called when, and with what."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rollingq_core.balancing import OGM, Rolling
from rollingq_core.data.dataset import PairedDataset
from rollingq_core.fusion.concat import ConcatFusion
from rollingq_core.models.encoders import TokenMLP
from rollingq_core.models.multimodal import MultimodalModel
from rollingq_core.rolling import RollingQ
from rollingq_core.runs.replica import Replica
from rollingq_core.runs.replicas import fit_replicas
from rollingq_core.training import Machine, Observer, fit
from rollingq_core.training.checkpoint import load_checkpoint
from rollingq_core.training.loop import shuffled
from tests.small import TRAINING, assert_same_state, small_data, small_model

BATCHES = [32, 32, 16]  # of 80 samples


class Recording(Observer):
    """Writes down each call, and what came with it."""

    name = "recording"

    def __init__(self):
        self.calls, self.seen = [], []

    def start(self, model, train):
        self.calls.append("start")
        self.seen.append((model, train))

    def extra_loss(self, output, labels):
        self.calls.append("extra_loss")
        self.seen.append((output, labels))

    def on_gradients(self, model, output, labels):
        self.calls.append("on_gradients")
        self.seen.append((output, labels))

    def on_batch(self, output):
        self.calls.append("on_batch")
        self.seen.append((output,))

    def end_epoch(self, model, train):
        self.calls.append("end_epoch")
        self.seen.append((model, train))
        return {"batches": self.calls.count("on_batch")}

    def of(self, call):
        return [seen for name, seen in zip(self.calls, self.seen, strict=True) if name == call]


@pytest.fixture(scope="module")
def data():
    return small_data()


def trained(data, *observers, model=None, config=TRAINING, **options):
    """Return a trained model and its result; options of the machine are told by its fields."""
    model = model or small_model()
    of_machine = {k: options.pop(k) for k in ("clip", "accumulate", "precision") if k in options}
    torch.seed()
    machine = Machine(**of_machine)
    return model, fit(model, data, config, observers=observers, machine=machine, **options)


def test_hooks_are_called_in_order_in_the_epochs_of_fusion_only(data):
    seen = Recording()
    _, result = trained(data, seen)
    batch = ["extra_loss", "on_gradients", "on_batch"]
    assert seen.calls == ["start", *([*batch * len(BATCHES), "end_epoch"] * 3)]
    assert [epoch.get("batches") for epoch in result.history] == [None, 3, 6, 9]
    model = seen.of("start")[0][0]
    assert all(one == (model, data.train) for one in [*seen.of("start"), *seen.of("end_epoch")])


def test_without_pretraining_the_start_is_the_first_epoch(data):
    seen = Recording()
    trained(data, seen, config=replace(TRAINING, pretrain_epochs=0, epochs=1))
    assert seen.calls[:2] == ["start", "extra_loss"]
    assert seen.calls[-1] == "end_epoch"


def test_the_loss_sees_the_graph_and_the_others_what_is_detached(data):
    seen = Recording()
    trained(data, seen)
    for output, labels in seen.of("extra_loss"):
        assert output.fusion.logits.requires_grad
        assert all(x.requires_grad for x in output.features.values())
        assert len(output.fusion.logits) == len(labels)
    for output, *_ in [*seen.of("on_gradients"), *seen.of("on_batch")]:
        tensors = [*output.fusion, *output.probes.values(), *output.features.values()]
        assert not any(x.requires_grad for x in tensors)


def test_observers_act_in_the_order_they_were_given(data):
    order = []

    class Named(Observer):
        def __init__(self, name):
            self.name = name

        def on_batch(self, output):
            order.append(self.name)

        def end_epoch(self, model, train):
            return {"last": self.name}

    _, result = trained(data, Named("first"), Named("second"))
    assert order == ["first", "second"] * (3 * len(BATCHES))
    assert result.history[-1]["last"] == "second"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_bare_observer_changes_nothing(data, accumulate):
    plain, history = trained(data, accumulate=accumulate)
    watched, again = trained(data, Observer(), accumulate=accumulate)
    assert_same_state(plain.state_dict(), watched.state_dict())
    assert history == again
    seen, recorded = trained(data, Recording(), accumulate=accumulate)
    assert_same_state(plain.state_dict(), seen.state_dict())
    told = [{k: x for k, x in epoch.items() if k != "batches"} for epoch in recorded.history]
    assert told == history.history


def test_the_defaults_do_nothing(data):
    observer, model = Observer(), small_model()
    assert observer.require_own(model) is None
    assert observer.start(model, data.train) is None
    assert observer.extra_loss(None, None) is None
    assert observer.on_gradients(model, None, None) is None
    assert observer.on_batch(None) is None
    assert observer.end_epoch(model, data.train) == {}
    assert observer.identity == {} == observer.state_dict()
    assert observer.load_state_dict({}) is None
    assert not observer.watches_attention
    assert not observer.stacks


class Pull(Observer):
    """Adds the size of the fused vector to the loss, and keeps the first batch's gradients."""

    name = "pull"

    def __init__(self, weight):
        self.weight, self.kept, self.batch = weight, None, None

    def extra_loss(self, output, labels):
        return self.weight * output.fusion.fused.square().mean()

    def on_gradients(self, model, output, labels):
        if self.kept is None:
            self.kept = {n: p.grad.clone() for n, p in model.named_parameters()}
            self.batch = (output, labels)


class Untouched(Pull):
    def extra_loss(self, output, labels):
        return None


def first_batch(data, observer, **options):
    """Train one epoch without pretraining; the observer keeps the first batch's gradients."""
    config = replace(TRAINING, pretrain_epochs=0, epochs=1)
    trained(data, observer, config=config, **options)
    return observer.kept


def test_an_extra_loss_adds_its_gradient(data):
    plain = first_batch(data, Untouched(0))
    pulled = first_batch(data, Pull(2.0))
    model = small_model()
    (inputs, labels), seen = recorded_batch(data), []
    output = model(inputs)
    (2.0 * output.fusion.fused.square().mean()).backward()
    for name, parameter in model.named_parameters():
        extra = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(pulled[name] - plain[name], extra, atol=1e-6, rtol=1e-5)
        seen.append(float(extra.abs().max()))
    assert max(seen) > 0.01
    assert len(labels) == 32


def recorded_batch(data):
    """Return the first batch of an epoch, as the loop draws it."""
    config = replace(TRAINING, pretrain_epochs=0, epochs=1)
    return next(iter(shuffled(data.train, config, 0, 4)))


def test_gradients_are_seen_before_they_are_clipped(data):
    clip, kept = 0.01, []

    class After(Observer):
        name = "after"

        def on_batch(self, output):
            total = nn.utils.get_total_norm([p.grad for p in model.parameters()])
            kept.append(float(total))

    model, before = small_model(), Untouched(0)
    config = replace(TRAINING, pretrain_epochs=0, epochs=1)
    _, result = trained(data, before, After(), model=model, config=config, clip=clip)
    free = first_batch(data, Untouched(0))
    for name, gradient in before.kept.items():
        assert torch.equal(gradient, free[name])
    assert float(nn.utils.get_total_norm([*before.kept.values()])) > 10 * clip
    assert kept[0] == pytest.approx(clip, rel=1e-3)
    assert max(result.history[0]["gradient_norm"].values()) > clip


def test_what_an_observer_makes_of_the_gradients_is_what_is_clipped_used_and_told(data):
    class Nothing(Observer):
        name = "nothing"

        def on_gradients(self, model, output, labels):
            for parameter in model.encoders["audio"].parameters():
                parameter.grad.zero_()

    config = replace(TRAINING, weight_decay=0.0, pretrain_epochs=0, epochs=1)
    model, result = trained(data, Nothing(), config=config)
    assert_same_state(model.encoders["audio"].state_dict(), untrained("audio"))
    assert result.history[0]["gradient_norm"]["audio"] == 0
    changed = zip(
        model.encoders["visual"].state_dict().values(), untrained("visual").values(), strict=True
    )
    assert not any(torch.equal(*pair) for pair in changed)


def untrained(name):
    return small_model().encoders[name].state_dict()


@pytest.mark.parametrize("accumulate", [1, 3, 5])
def test_a_batch_in_pieces_is_shown_whole(data, accumulate):
    seen, whole = Recording(), Recording()
    config = replace(TRAINING, pretrain_epochs=0, epochs=1)
    trained(data, seen, config=config, accumulate=accumulate)
    trained(data, whole, config=config)
    assert [len(labels) for _, labels in seen.of("on_gradients")] == BATCHES
    assert [len(output.fusion.logits) for (output,) in seen.of("on_batch")] == BATCHES
    pieces = [len(labels) for _, labels in seen.of("extra_loss")]
    assert sum(pieces) == sum(BATCHES)
    assert len(pieces) == sum(len(torch.zeros(size).chunk(accumulate)) for size in BATCHES)
    found, expected = (one.of("on_gradients")[0] for one in (seen, whole))
    assert torch.equal(found[1], expected[1])
    for one, other in zip(found[0].fusion, expected[0].fusion, strict=True):
        torch.testing.assert_close(one, other)
    for part in ("probes", "features"):
        torch.testing.assert_close(getattr(found[0], part), getattr(expected[0], part))


def test_an_extra_loss_of_pieces_weighs_as_much_as_of_the_whole(data):
    whole = first_batch(data, Pull(1.0))
    pieces = first_batch(data, Pull(1.0), accumulate=4)
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-4)


def test_two_observers_of_one_name_are_refused(data):
    with pytest.raises(ValueError, match=r"observers: got names \['recording', 'recording', "):
        trained(data, Recording(), Recording())
    twice = [Rolling(RollingQ(small_model().fusion, 3.0, 0.0, 2)) for _ in range(2)]
    with pytest.raises(ValueError, match=r"observers: got names \['rolling', 'rolling'\]"):
        trained(data, *twice)
    model = small_model()
    with pytest.raises(ValueError, match="expected each once"):
        fit_replicas([Replica(model, data, TRAINING, twice)])


class Counting(Observer):
    """Counts batches, and keeps a tensor of what it saw last."""

    name = "counting"

    def __init__(self, option=1):
        self.option, self.count, self.last = option, 0, torch.zeros(4)

    def on_batch(self, output):
        self.count += 1
        self.last = output.fusion.logits[0]

    def end_epoch(self, model, train):
        return {"count": self.count}

    @property
    def identity(self):
        return {"option": self.option}

    def state_dict(self):
        return {"count": self.count, "last": self.last}

    def load_state_dict(self, state):
        self.count, self.last = state["count"], state["last"]


def stop_after(end):
    def stop(record):
        if record["epoch"] == end:
            raise InterruptedError

    return stop


def test_an_observers_state_is_saved_and_comes_back(data, tmp_path):
    path, whole = tmp_path / "run.pt", Counting()
    model, result = trained(data, whole)
    first, second = Counting(), Counting()
    with pytest.raises(InterruptedError):
        trained(data, first, checkpoint=path, on_epoch=stop_after(2))
    saved = load_checkpoint(path)["parts"]["counting"]
    assert saved["count"] == first.count == 6
    assert torch.equal(saved["last"], first.last)
    found, again = trained(data, second, checkpoint=path)
    assert (second.count, again) == (9, result)
    assert torch.equal(second.last, whole.last)
    assert_same_state(found.state_dict(), model.state_dict())


def test_an_observer_whose_options_differ_is_of_another_run(data, tmp_path):
    path = tmp_path / "run.pt"
    trained(data, Counting(1), checkpoint=path)
    with pytest.raises(ValueError, match=r"is of counting.option 1; expected counting.option 2"):
        trained(data, Counting(2), checkpoint=path)
    with pytest.raises(ValueError, match=r"counting.option 1; expected .*counting.option None"):
        trained(data, checkpoint=path)


def test_an_observer_may_refuse_a_model_before_anything_is_done(data, tmp_path):
    class Choosy(Recording):
        def require_own(self, model):
            raise ValueError("choosy: got this model, expected another")

    observer, path = Choosy(), tmp_path / "run.pt"
    with pytest.raises(ValueError, match="choosy: got this model"):
        trained(data, observer, checkpoint=path)
    assert observer.calls == []
    assert not path.exists()


def test_attention_is_watched_once_where_there_is_some(data):
    _, alone = trained(data)
    assert alone.history[-1]["air"] is not None
    assert alone.history[-1]["rotation"] is None
    model = small_model()
    rolling = Rolling(RollingQ(model.fusion, 3.0, 0.0, 1))
    _, rolled = trained(data, Recording(), rolling, model=model)
    assert rolled.history[1]["rotation"]["count"] == 1
    encoders = {name: TokenMLP(8, 4, dim=8) for name in ("audio", "visual")}
    static = MultimodalModel(encoders, ConcatFusion(8, 4), 4)
    _, told = trained(data, model=static)
    assert not {"air", "share", "rotation"} & set(told.history[-1])


def test_observers_of_different_kinds_work_side_by_side(data):
    encoders = {name: TokenMLP(8, 4, dim=8) for name in ("audio", "visual")}
    static = MultimodalModel(encoders, ConcatFusion(8, 4), 4)
    seen = Recording()
    _, result = trained(data, OGM(static), seen, Counting(), model=static)
    assert {"modulation", "batches", "count"} <= set(result.history[-1])


def test_replicas_with_an_observer_that_does_not_stack_are_trained_one_by_one(data):
    seen = [Recording(), Recording()]
    models = [small_model(0), small_model(1)]
    torch.seed()
    replicas = [Replica(m, data, TRAINING, [o]) for m, o in zip(models, seen, strict=True)]
    results = fit_replicas(replicas)
    for seed, (model, result) in enumerate(zip(models, results, strict=True)):
        expected, alone = trained(data, Recording(), model=small_model(seed))
        assert_same_state(model.state_dict(), expected.state_dict())
        assert result == alone


class Masked(nn.Module):
    """An encoder that asks for the padding."""

    def __init__(self, width, dim=8):
        super().__init__()
        self.map, self.masks = nn.Linear(width, dim), []

    def forward(self, inputs, padding=None):
        self.masks.append(padding)
        return self.map(inputs)


def test_an_encoder_that_takes_padding_gets_the_mask():
    torch.manual_seed(0)
    encoders = {"audio": Masked(8), "visual": Masked(8)}
    model = MultimodalModel(encoders, ConcatFusion(8, 4), 4)
    inputs = {name: torch.randn(6, 4, 8) for name in encoders}
    padding = torch.zeros(6, 4, dtype=torch.bool)
    padding[:3, 2:] = True
    model({**inputs, "audio_padding": padding})
    assert torch.equal(encoders["audio"].masks[-1], padding)
    assert encoders["visual"].masks[-1] is None
    model(inputs)
    assert encoders["audio"].masks[-1] is None


def test_an_encoder_that_does_not_take_padding_is_called_as_before(data):
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(8, 8)

        def forward(self, inputs):
            return self.map(inputs)

    padding = {"audio": torch.zeros(80, 4, dtype=torch.bool)}
    padding["audio"][::2, 3:] = True
    split = PairedDataset(data.train.inputs, data.train.labels, padding)
    encoders = {"audio": Masked(8), "visual": Plain()}
    model = MultimodalModel(encoders, ConcatFusion(8, 4), 4)
    trained(replace(data, train=split), model=model, config=replace(TRAINING, epochs=1))
    shown = [mask for mask in encoders["audio"].masks if mask is not None]
    assert [len(mask) for mask in shown] == BATCHES * 2  # pretraining and fusion


class Silent(Observer):
    """Acts at an epoch's end, tells nothing, and has no options."""

    name = "silent"

    def end_epoch(self, model, train):
        return None


def test_an_observer_may_tell_nothing(data):
    assert trained(data, Silent())[1] == trained(data)[1]


def test_a_run_with_an_observer_does_not_go_on_without_it(data, tmp_path):
    path = tmp_path / "run.pt"
    trained(data, Silent(), checkpoint=path)
    with pytest.raises(ValueError, match=r"observers \['silent', 'attention'\]; expected"):
        trained(data, checkpoint=path)


def test_a_name_that_a_checkpoint_uses_is_refused(data):
    for name in ("model", "optimizer", "training"):
        observer = Silent()
        observer.name = name
        with pytest.raises(
            ValueError, match=f"observers: got names .*{name}.*, which a checkpoint"
        ):
            trained(data, observer)
