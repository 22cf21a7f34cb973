"""The whole model: what reaches the encoders, what is refused, and prediction over a dataset."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from rollingq_core.models.predictions import Predictions, batches, predict
from tests.small import small_data, small_model


@pytest.fixture(scope="module")
def data():
    return small_data()


@pytest.fixture
def model():
    return small_model()


def gradients(module):
    return [p.grad for p in module.parameters()]


def test_probes_do_not_teach_the_encoders_in_fusion(model, data):
    output = model(data.train.inputs)
    sum(cross_entropy(x, data.train.labels) for x in output.probes.values()).backward()
    assert all(grad is None for grad in gradients(model.encoders))
    assert all(grad.abs().sum() > 0 for grad in gradients(model.probes))


def test_probes_teach_their_own_encoder_in_pretraining(model, data):
    output = model(data.train.inputs, fuse=False, detach_probes=False)
    cross_entropy(output.probes["audio"], data.train.labels).backward()
    assert all(grad.abs().sum() > 0 for grad in gradients(model.encoders["audio"]))
    assert all(grad is None for grad in gradients(model.encoders["visual"]))


def test_fusion_teaches_both_encoders(model, data):
    cross_entropy(model(data.train.inputs).fusion.logits, data.train.labels).backward()
    for encoder in model.encoders.values():
        assert all(grad.abs().sum() > 0 for grad in gradients(encoder))


def test_without_fusion_the_layer_is_not_run(model, data, monkeypatch):
    probes = model(data.test.inputs).probes
    monkeypatch.setattr(model.fusion, "forward", None)
    output = model(data.test.inputs, fuse=False)
    assert output.fusion is None
    torch.testing.assert_close(output.probes, probes)


@torch.no_grad()
def test_modalities_keep_the_encoders_order(model, data):
    tokens = [model.encoders[name](data.test.inputs[name]) for name in ("audio", "visual")]
    swapped = dict(reversed(data.test.inputs.items()))
    torch.testing.assert_close(model(swapped).fusion, model.fusion(tokens))
    assert model.modalities == ("audio", "visual")


def test_missing_modality_is_named(model, data):
    with pytest.raises(ValueError, match=r"inputs: got \['audio'\], expected also \['visual'\]"):
        model({"audio": data.test.inputs["audio"]})


@pytest.mark.parametrize("pool", ["mean", "first"])
@torch.no_grad()
def test_pool(pool, data):
    model = small_model(pool=pool)
    z = model.encoders["audio"](data.test.inputs["audio"])
    read = z.mean(1) if pool == "mean" else z[:, 0]
    probe = model(data.test.inputs).probes["audio"]
    torch.testing.assert_close(probe, model.probes["audio"](read))


def test_unknown_pool_is_named():
    with pytest.raises(ValueError, match=r"pool: got 'max', expected one of \('mean', 'first'\)"):
        small_model(pool="max")


@torch.no_grad()
def test_predict_equals_a_plain_loop(model, data):
    found = predict(model, data.test, batch_size=7)
    model.eval()
    outputs = [model({n: x[i : i + 1] for n, x in data.test.inputs.items()}) for i in range(60)]

    def column(name):
        return torch.cat([getattr(output.fusion, name) for output in outputs])

    keys, query = column("mean_keys"), column("query")
    torch.testing.assert_close(found.logits, column("logits"))
    torch.testing.assert_close(found.share, column("share"))
    torch.testing.assert_close(found.key_norms, keys.norm(dim=-1))
    torch.testing.assert_close(found.cosines, cosine_similarity(query[:, None], keys, dim=-1))
    torch.testing.assert_close(found.query, query[0])
    assert torch.equal(found.labels, data.test.labels)
    for name, rate in found.probe_accuracy.items():
        answers = torch.cat([output.probes[name] for output in outputs]).argmax(1)
        assert rate == pytest.approx(float((answers == data.test.labels).float().mean()))


def test_predict_does_not_depend_on_the_batch_size(model, data):
    whole = predict(model, data.test, batch_size=60)
    for batch_size in (1, 7, 256):
        found = predict(model, data.test, batch_size)
        assert found.probe_accuracy == whole.probe_accuracy
        for left, right in zip(found[:-1], whole[:-1], strict=True):
            torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_predict_runs_in_evaluation_mode_and_restores_the_mode(training, data):
    model = small_model(attention_dropout=0.5, output_dropout=0.5).train(training)
    first, second = predict(model, data.test), predict(model, data.test)
    assert torch.equal(first.logits, second.logits)
    assert not first.logits.requires_grad
    assert all(module.training is training for module in model.modules())


def test_accuracy_and_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    rest = [torch.zeros(3, 2)] * 3
    found = Predictions(logits, torch.tensor([0, 1, 1]), *rest, torch.zeros(2), {})
    assert found.accuracy == pytest.approx(2 / 3)
    # ln(1 + e^margin of the wrong class), for margins -2, -1 and 1.
    losses = [math.log1p(math.exp(margin)) for margin in (-2, -1, 1)]
    assert found.loss == pytest.approx(sum(losses) / 3)


def test_batches_are_whole_and_their_order_is_the_generators(data):
    def labels(seed=None):
        order = None if seed is None else torch.Generator().manual_seed(seed)
        return [y for _, y in batches(data.train, 32, order)]

    assert [len(y) for y in labels()] == [32, 32, 16]
    assert torch.equal(torch.cat(labels()), data.train.labels)
    assert torch.equal(torch.cat(labels(3)), torch.cat(labels(3)))
    assert not torch.equal(torch.cat(labels(3)), torch.cat(labels(4)))
    assert torch.equal(torch.cat(labels(3)).sort().values, data.train.labels.sort().values)
