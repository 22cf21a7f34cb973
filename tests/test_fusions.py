"""The deeper fusions: their toys, who reads whom, and what no fusion may do."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, layer_norm

from rollingq_core import RollingQ
from rollingq_core.fusion import (
    AttentionFusion,
    BottleneckFusion,
    ConcatFusion,
    CrossmodalFusion,
    CrossStreamFusion,
    EarlyFusion,
    JointFusion,
    StackFusion,
)
from rollingq_core.fusion.jmt import resampled
from rollingq_core.fusion.layers import Attention
from rollingq_core.fusion.mbt import mean_bottlenecks
from rollingq_core.fusion.mmml import PostNorm
from rollingq_core.fusion.mult import causal_mask, positioned, sinusoidal_positions
from rollingq_core.rotation import plane_rotation

D, C = 8, 5
MAKE = {
    "mt2": lambda m, **o: StackFusion(D, C, **o),
    "early": lambda m, **o: EarlyFusion(D, C, first=2, **o),
    "mult": lambda m, **o: CrossmodalFusion(D, C, m, **o),
    "mult-joint": lambda m, **o: CrossmodalFusion(D, C, m, joint=True, **o),
    "mbt": lambda m, **o: BottleneckFusion(D, C, m, **o),
    "jmt": lambda m, **o: JointFusion(D, C, m, **o),
    "mmml": lambda m, **o: CrossStreamFusion(D, C, m, **o),
    "mmml-joint": lambda m, **o: CrossStreamFusion(D, C, m, joint=True, **o),
    "mmml-first": lambda m, **o: CrossStreamFusion(D, C, m, pool="first", **o),
    "mbt-first": lambda m, **o: BottleneckFusion(D, C, m, pool="first", **o),
    "jmt-first": lambda m, **o: JointFusion(D, C, m, pool="first", **o),
}
JOINT = ("mt2", "early", "mult-joint", "mmml-joint")
every = pytest.mark.parametrize("name", MAKE)
modalities = pytest.mark.parametrize("count", [2, 3])


def made(name, count=2, **options):
    torch.manual_seed(0)
    return MAKE[name](count, **options).eval()


def tokens_of(count=2, batch=4, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 5 - m, D, generator=draw) for m in range(count)]


def masks_of(tokens):
    """Ragged masks: the last token of some samples, and all of a modality of sample 0."""
    masks = []
    for index, z in enumerate(tokens):
        mask = torch.zeros(z.shape[:2], dtype=torch.bool)
        mask[1:3, -1] = True
        mask[0] = index == len(tokens) - 1
        masks.append(mask)
    return masks


@every
@modalities
def test_shapes_and_what_is_told_of_attention(name, count):
    tokens = tokens_of(count)
    output = made(name, count)(tokens)
    assert output.logits.shape == (4, C)
    if name not in JOINT:
        assert output[2:] == (None, None, None, None)
        return
    own = count if name == "mmml-joint" else 0  # class tokens of its streams
    assert output.attention.shape == (4, 1, sum(z.shape[1] for z in tokens) + own)
    assert output.share.shape == (4, count)
    assert output.mean_keys.shape[:2] == (4, count)
    assert output.query.shape == output.mean_keys[:, 0].shape
    if "joint" in name:  # in a Transformer block the class token is a key, too
        torch.testing.assert_close(output.share.sum(1), torch.ones(4))


@every
@modalities
def test_what_is_padding_changes_nothing(name, count):
    tokens = tokens_of(count)
    masks = masks_of(tokens)
    layer = made(name, count)
    clean = layer(tokens, masks)
    spoilt = [z.masked_fill(m.unsqueeze(-1), 1e4) for z, m in zip(tokens, masks, strict=True)]
    dirty = layer(spoilt, masks)
    for a, b in zip(clean, dirty, strict=True):
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@every
@modalities
def test_what_a_sample_lacks_is_left_out_as_if_cut_off(name, count):
    # Not of the longest modality, to whose length JMT brings the others.
    first, *others = tokens_of(count)
    mask = torch.zeros(others[0].shape[:2], dtype=torch.bool)
    mask[:, -2:] = True
    layer = made(name, count)
    layer.causal = False  # MulT's mask depends on the lengths
    whole = layer([first, *others], [None, mask, *[None] * (count - 2)])
    cut = layer([first, others[0][:, :-2], *others[1:]])
    torch.testing.assert_close(whole.logits, cut.logits, rtol=1e-4, atol=1e-5)


@every
@modalities
def test_missing_modalities_give_numbers_and_gradients(name, count):
    tokens = [z.requires_grad_() for z in tokens_of(count)]
    masks = masks_of(tokens)
    masks[-1][:] = True  # the whole batch lacks the last one
    layer = made(name, count)
    output = layer(tokens, masks)
    output.logits.square().sum().backward()
    assert torch.isfinite(output.logits).all()
    gradients = [p.grad for p in layer.parameters() if p.grad is not None]
    for gradient in [*gradients, *(z.grad for z in tokens if z.grad is not None)]:
        assert torch.isfinite(gradient).all()


@every
def test_dropout_is_for_training_only(name):
    layer, tokens = made(name, dropout=0.5), tokens_of()
    assert torch.equal(layer(tokens).logits, layer(tokens).logits)
    layer.train()
    assert not torch.equal(layer(tokens).logits, layer(tokens).logits)


@every
def test_every_weight_learns(name):
    layer = made(name)
    layer(tokens_of()).logits.square().sum().backward()
    idle = [n for n, p in layer.named_parameters() if p.grad is None]
    assert idle == []


@every
def test_other_precisions_and_compilation(name):
    layer, tokens = made(name), tokens_of()
    expected = layer(tokens).logits
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(tokens).logits.float(), expected, rtol=0.1, atol=0.15)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    answer = half([z.to(torch.bfloat16) for z in tokens]).logits
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float(), expected, rtol=0.1, atol=0.15)
    double = copy.deepcopy(layer).double()
    answer = double([z.double() for z in tokens]).logits
    torch.testing.assert_close(answer.float(), expected, rtol=1e-4, atol=1e-5)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for masks in (None, masks_of(tokens)):
        torch.testing.assert_close(compiled(tokens, masks).logits, layer(tokens, masks).logits)


@every
def test_state_is_whole(name):
    layer, tokens = made(name), tokens_of()
    other = MAKE[name](2).eval()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(tokens).logits, layer(tokens).logits)
    assert torch.equal(copy.deepcopy(layer)(tokens).logits, layer(tokens).logits)


@every
def test_wrong_inputs_are_named(name):
    layer, tokens = made(name), tokens_of()
    with pytest.raises(ValueError, match=r"tokens\[0\]: got shape"):
        layer([tokens[0][..., :4], tokens[1]])
    with pytest.raises(ValueError, match=r"tokens\[1\]: got shape .*, expected the batch size"):
        layer([tokens[0], tokens[1][:2]])
    with pytest.raises(ValueError, match="tokens: got"):
        layer(tokens[:1])
    with pytest.raises(ValueError, match="key_padding_masks: got"):
        layer(tokens, [None])
    if name not in ("mt2", "early"):  # which take any number of modalities
        with pytest.raises(ValueError, match="tokens: got 3 modalities, expected 2"):
            layer([*tokens, tokens[0]])


@pytest.mark.parametrize(
    "kind", [StackFusion, CrossmodalFusion, BottleneckFusion, JointFusion, CrossStreamFusion]
)
def test_wrong_options_are_named(kind):
    for options, said in (
        ({"num_heads": 3}, "num_heads: got 3, expected a divisor of dim 8"),
        ({"dropout": 2}, "dropout: got 2"),
    ):
        with pytest.raises(ValueError, match=said):
            kind(D, C, **options)
    with pytest.raises(ValueError, match="num_classes: got 0"):
        kind(D, 0)


# --- a query that can be turned


@pytest.mark.parametrize("name", JOINT)
def test_a_turn_moves_the_query_and_nothing_else_is_turned(name):
    layer, tokens = made(name), tokens_of()
    before = layer(tokens)
    identity = copy.deepcopy(layer)
    identity.rotation.count.add_(0)
    assert torch.equal(identity(tokens).logits, before.logits)
    width = before.query.shape[-1]
    turn = plane_rotation(before.query.mean(0), torch.arange(1.0, width + 1))
    layer.rotation.rotate(turn)
    after = layer(tokens)
    torch.testing.assert_close(after.query, turn.apply(before.query), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.mean_keys, before.mean_keys)
    assert (after.share - before.share).abs().max() > 1e-4


@pytest.mark.parametrize("name", JOINT)
def test_rollingq_turns_toward_the_neglected_modality(name):
    layer, tokens = made(name), tokens_of()
    layer.train()
    rolling = RollingQ(layer, rho=3, beta=0.0, max_rotations=1)
    rolling.observe(layer(tokens))
    before = rolling.running.compute().cosines
    event = rolling.end_epoch()
    assert event is not None
    rolling.observe(layer(tokens))
    after = rolling.running.compute().cosines
    least = int(before.argmin())
    assert after[least] > before[least]


def test_adapted_projections_are_called():
    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.calls = base, 0

        def forward(self, x):
            self.calls += 1
            return self.base(x) + 0.5 * x

    for name, of in (("mt2", lambda f: f.blocks[-1].attention), ("mmml-joint", lambda f: f.joint)):
        layer, tokens = made(name), tokens_of()
        plain = layer(tokens).logits
        attention = of(layer)
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(attention, projection, Adapted(getattr(attention, projection)))
        assert not torch.allclose(layer(tokens).logits, plain)
        assert all(getattr(attention, p).calls for p in ("q_proj", "k_proj", "v_proj", "out_proj"))


# --- MT* (C.2) and earlier fusion


def test_the_order_of_a_modalitys_tokens_does_not_matter_to_a_stack():
    layer, tokens = made("mt2"), tokens_of()
    turned = [tokens[0][:, [3, 0, 4, 1, 2]], tokens[1].flip(1)]
    torch.testing.assert_close(layer(tokens).logits, layer(turned).logits, rtol=1e-4, atol=1e-5)


def test_a_bypassed_block_is_as_if_it_were_not_there():
    two, tokens = made("mt2"), tokens_of()
    one = StackFusion(D, C, depth=1).eval()
    state = {k: v for k, v in two.state_dict().items() if not k.startswith("blocks.1.")}
    one.load_state_dict(state | {"used": torch.tensor(1)})
    whole = two(tokens).logits
    assert two.rotation is two.rotations[1]
    two.use_blocks(1)
    assert torch.equal(two(tokens).logits, one(tokens).logits)
    assert two.rotation is two.rotations[0]
    # What is in use is saved with the weights.
    other = StackFusion(D, C).eval()
    other.load_state_dict(two.state_dict())
    assert torch.equal(other(tokens).logits, one(tokens).logits)
    other.use_blocks(2)
    assert torch.equal(other(tokens).logits, whole)
    for wrong in (0, 3, 1.0):
        with pytest.raises(ValueError, match="count: got"):
            two.use_blocks(wrong)


def textbook_block(block, x):
    """A pre-norm block, every row, written out."""
    a = block.attention
    z = layer_norm(x, (D,), block.norm1.weight, block.norm1.bias, 1e-6)
    q, k, v = (m(z) for m in (a.q_proj, a.k_proj, a.v_proj))
    q = torch.cat([q[:, :1] @ a.rotation.matrix, q[:, 1:]], 1) if hasattr(a, "rotation") else q
    x = x + a.out_proj((q @ k.mT / math.sqrt(D)).softmax(-1) @ v)
    z = layer_norm(x, (D,), block.norm2.weight, block.norm2.bias, 1e-6)
    return x + block.mlp(z)


def test_a_stack_is_the_textbooks():
    layer, tokens = made("early"), tokens_of()
    for seed, rotation in enumerate(layer.rotations):
        torch.manual_seed(seed)
        rotation.rotate(plane_rotation(torch.randn(D), torch.randn(D)))
    x = torch.cat([layer.cls.expand(4, -1, -1), *tokens], 1)
    for block in layer.blocks:
        x = textbook_block(block, x)
    torch.testing.assert_close(
        layer.head(layer.norm(x[:, 0])), layer(tokens).logits, rtol=1e-4, atol=1e-5
    )


def test_earlier_fusion_counts_its_blocks():
    for first, own in ((2, 3), (3, 2), (4, 1)):
        assert len(EarlyFusion(D, C, first=first).blocks) == own
    for wrong in (1, 5):
        with pytest.raises(ValueError, match=f"first: got {wrong}"):
            EarlyFusion(D, C, first=wrong)


# --- MulT (C.3)


def test_positions_are_the_published_ones():
    table = sinusoidal_positions(4, 4)
    torch.testing.assert_close(
        table[1], torch.tensor([0.841471, 0.0001, 0.540302, 1.0]), atol=1e-6, rtol=0
    )
    assert not table[0].any()
    assert sinusoidal_positions(3, 2).isfinite().all()
    assert sinusoidal_positions(3, 5).shape == (4, 5)
    x = torch.zeros(1, 3, 4)
    padded = torch.tensor([[False, True, False]])
    torch.testing.assert_close(positioned(x, padded)[0], table[[1, 0, 3]])
    torch.testing.assert_close(positioned(x + 1, None)[0], 2 + table[1:4])


def test_causal_mask_is_the_published_one():
    assert causal_mask(3, 5).nonzero().tolist() == [[0, 3], [0, 4], [1, 4]]
    assert not causal_mask(5, 3).any()
    assert causal_mask(3, 3).nonzero().tolist() == [[0, 1], [0, 2], [1, 2]]


def test_no_step_reads_a_later_one():
    layer = CrossmodalFusion(D, C, memory=2).eval()
    audio, visual = tokens_of()[0], tokens_of(seed=2)[0]
    stream = layer._stream(0, [audio, visual], [None, None])
    changed = visual.clone()
    changed[:, 3] += 1
    after = layer._stream(0, [audio, changed], [None, None])
    assert torch.equal(after[:, :3], stream[:, :3])
    assert not torch.equal(after[:, 3:], stream[:, 3:])


def test_cross_attention_toy():
    layer = Attention(2)
    for projection in (layer.q_proj, layer.k_proj, layer.v_proj, layer.out_proj):
        nn.init.eye_(projection.weight)
        nn.init.zeros_(projection.bias)
    rows, source = torch.eye(2)[None], torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    expected = torch.tensor([[[0.669762, 0.660477], [0.195570, 1.608859]]])
    torch.testing.assert_close(layer(rows, source), expected, atol=1e-5, rtol=0)


def test_sources_stay_what_they_were_and_go_through_the_targets_norm():
    layer = CrossmodalFusion(D, C, depth=2).eval()
    encoder = layer.crossmodal[0][0]
    audio, visual = tokens_of()
    x, y = positioned(audio, None), positioned(visual, None)
    for own in encoder.layers:
        read = own.attention(own.norm1(x), own.norm1(y), None, causal_mask(5, 4))
        x = x + read
        x = x + own.mlp(own.norm2(x))
    torch.testing.assert_close(encoder(audio, visual), encoder.norm(x))


def test_the_last_step_that_is_none_of_padding_is_read():
    layer, tokens = made("mult"), tokens_of()
    seen = []
    layer.memory[0].register_forward_hook(lambda m, a, out: seen.append(out))
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, 3:] = mask[1, [1, 4]] = True
    inputs = []
    layer.proj1.register_forward_hook(lambda m, a, out: inputs.append(a[0]))
    layer(tokens, [mask, None])
    last = seen[0][torch.arange(4), torch.tensor([2, 3, 4, 4])]
    assert torch.equal(inputs[0][:, :D], last)


# --- MBT (C.4)


def test_bottlenecks_are_averaged_toy():
    audio, visual = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[3.0, 0], [1, 2]])
    assert mean_bottlenecks([audio, visual]).tolist() == [[2, 1], [2, 3]]
    assert mean_bottlenecks([audio, 0 * visual]).tolist() == [[0.5, 1], [1.5, 2]]


@pytest.mark.parametrize("bottlenecks", [0, 2])
def test_modalities_see_each_other_through_bottlenecks_alone(bottlenecks):
    layer = made("mbt", bottlenecks=bottlenecks)
    audio, visual = (z.requires_grad_() for z in tokens_of())
    layer.vectors([audio, visual])[:, 0].square().sum().backward()
    reached = visual.grad is not None and bool(visual.grad.abs().sum() > 0)
    assert reached is (bottlenecks > 0)
    own = [p.grad for blocks in layer.blocks for p in blocks[1].parameters()]
    assert any(g is not None and g.any() for g in own) is (bottlenecks > 0)
    assert audio.grad.abs().sum() > 0


def test_bottlenecks_are_the_textbooks():
    layer, tokens = made("mbt"), tokens_of()
    shared, streams = layer.bottlenecks.expand(4, -1, -1), tokens
    for blocks in layer.blocks:
        rows = [
            textbook_block(b, torch.cat([shared, z], 1))
            for b, z in zip(blocks, streams, strict=True)
        ]
        shared, streams = (rows[0][:, :2] + rows[1][:, :2]) / 2, [r[:, 2:] for r in rows]
    vectors = [n(z).mean(1) for n, z in zip(layer.norms, streams, strict=True)]
    expected = layer.head((vectors[0] + vectors[1]) / 2)
    torch.testing.assert_close(layer(tokens).logits, expected, rtol=1e-4, atol=1e-5)


# --- JMT (C.5)


def test_readings_stand_in_the_published_order():
    names = ("a", "v", "j")
    said = [f"{names[t]}<-{names[s]}" for t, s in JointFusion(D, C).readings]
    assert said == ["v<-a", "a<-v", "j<-v", "v<-j", "j<-a", "a<-j"]
    readings = JointFusion(D, C, 3).readings
    assert len(set(readings)) == len(readings) == 12


def test_uniform_readings_are_means_toy():
    layer = made("jmt")
    for attention in layer.attention:
        with torch.no_grad():
            attention.in_proj_weight.zero_()
            attention.in_proj_weight[2 * D :] = torch.eye(D)
            attention.in_proj_bias.zero_()
            nn.init.eye_(attention.out_proj.weight)
    audio, visual = tokens_of()
    seen = []
    layer.output.register_forward_hook(lambda m, a, out: seen.append(a[0]))
    layer([audio, visual])
    longer = resampled(visual, None, 5)
    joint = layer.joint(torch.cat([audio, longer], -1))
    a, v, j = (z.mean(1) for z in (audio, longer, joint))
    torch.testing.assert_close(seen[0], torch.cat([a, v, v, j, a, j], -1), rtol=1e-4, atol=1e-5)


def test_streams_are_set_side_by_side_feature_by_feature():
    layer = made("jmt")
    assert layer.joint.in_features == 2 * D
    assert len(layer.attention) == 3  # one a target, for both that it reads


def test_resampling_is_linear_and_leaves_padding_out():
    z = tokens_of()[0]
    for length in (5, 3, 9):
        expected = interpolate(z.mT, length, mode="linear", align_corners=True).mT
        torch.testing.assert_close(resampled(z, None, length), expected)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, [0, 3]] = mask[1] = True
    mask[2, :4] = True
    found = resampled(z, mask, 4)
    left = interpolate(z[:1, [1, 2, 4]].mT, 4, mode="linear", align_corners=True).mT
    torch.testing.assert_close(found[:1], left)
    assert not found[1].any()
    torch.testing.assert_close(found[2], z[2, 4:].expand(4, -1))


# --- MMML (C.6)


def test_sum_and_norm_toy():
    norm = PostNorm(3)
    row, read = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([[1.0, 1, 0], [0, 1, 4]]).mean(0)
    expected = torch.tensor([-0.508001, -0.889001, 1.397001])
    torch.testing.assert_close(norm(row, read), expected, atol=1e-5, rtol=0)


@modalities
def test_streams_read_the_others_as_they_came_in(count):
    layer, tokens = made("mmml", count), tokens_of(count)
    streams, masks = layer._with_class_tokens(tokens, [None] * count)
    assert [s.shape[1] for s in streams] == [z.shape[1] + 1 for z in tokens]
    crossed = layer._crossed(streams, masks)
    for m in range(count):
        others = torch.cat([streams[o] for o in range(count) if o != m], 1)
        expected = layer.crossed[m](streams[m], layer.cross[m](streams[m], others))
        torch.testing.assert_close(crossed[m], expected)


def test_the_joint_attention_reads_all_streams_and_the_plain_one_its_own():
    layer, tokens = made("mmml-joint"), tokens_of()
    output = layer(tokens)
    assert output.attention.shape[-1] == 5 + 4 + 2  # and the streams' class tokens
    assert (output.share > 0).all()
    plain = made("mmml")
    seen = []
    for attention in plain.own:
        attention.register_forward_hook(lambda m, a, out: seen.append(a[1].shape[1]))
    plain(tokens)
    assert seen == [6, 5]


@pytest.mark.parametrize("count", [2, 3])
def test_the_first_token_stands_for_a_stream_where_encoders_make_one(count):
    layer = made("mmml-first", count)
    assert layer.cls is None
    assert made("mmml", count).cls.shape == (count, 1, 1, D)


def test_plain_fusions_are_what_they_were():
    """Attention and static fusion take part in the same loop, and know nothing of the others."""
    for kind in (AttentionFusion(D, C), ConcatFusion(D, C)):
        assert not hasattr(kind, "continues_encoders")
    assert BottleneckFusion.continues_encoders
    assert EarlyFusion.continues_encoders
