"""A reader's own arrays, in memory and from a file."""

import numpy as np
import pytest
import torch

from rollingq_core.data import from_arrays
from rollingq_core.data.arrays import from_npz
from tests.small import splits_of

N = 20


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "audio": rng.normal(size=(N, 4, 6)),
        "visual": rng.normal(size=(N, 3)).astype(np.float32),
        "text": torch.from_numpy(rng.normal(size=(N, 2, 5))),
    }


LABELS = np.arange(N) % 3
MASK = np.zeros((N, 4), dtype=bool)
MASK[::2, 2:] = True


def test_any_number_of_modalities_as_sequences_or_vectors():
    data = from_arrays(arrays(), LABELS)
    assert [len(split) for split in splits_of(data)] == [16, 2, 2]
    shapes = {name: tuple(x.shape[1:]) for name, x in data.train.inputs.items()}
    assert shapes == {"audio": (4, 6), "visual": (1, 3), "text": (2, 5)}
    assert data.classes == ("0", "1", "2")
    assert data.patch is None
    together = torch.cat([split.inputs["visual"][:, 0] for split in splits_of(data)])
    original = torch.from_numpy(arrays()["visual"])
    assert sorted(together.tolist()) == sorted(original.tolist())


def test_given_indices_are_the_splits_and_labels_and_masks_go_with_them():
    splits = [np.arange(0, 12), torch.arange(12, 16), [16, 19]]
    data = from_arrays(arrays(), LABELS, masks={"audio": MASK}, splits=splits)
    for chosen, split in zip(splits, splits_of(data), strict=True):
        chosen = np.asarray(chosen)
        expected = torch.from_numpy(arrays()["audio"][chosen]).float()
        assert torch.equal(split.inputs["audio"], expected)
        assert split.labels.tolist() == LABELS[chosen].tolist()
        assert split.padding["audio"].tolist() == MASK[chosen].tolist()
        assert "visual" not in split.padding


def test_the_seed_draws_the_split_and_the_hash_tells_data_apart():
    same, again = from_arrays(arrays(), LABELS), from_arrays(arrays(), LABELS)
    assert same.data_hash == again.data_hash
    other = from_arrays(arrays(), LABELS, seed=1)
    masked = from_arrays(arrays(), LABELS, masks={"audio": MASK})
    changed = from_arrays(arrays(1), LABELS)
    assert len({d.data_hash for d in (same, other, masked, changed)}) == 4


NAN = {**arrays(), "audio": np.full((N, 4, 6), np.nan)}


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "message"),
    [
        ({}, LABELS, {}, "inputs: got no modality"),
        ({"audio": np.zeros(N)}, LABELS, {}, r"inputs\['audio'\]: got shape \[20\]"),
        ({"audio": np.zeros((N, 0, 3))}, LABELS, {}, "not empty"),
        ({"audio": np.zeros((N, 2, 3, 4))}, LABELS, {}, r"expected \[N, L, p\] or \[N, p\]"),
        (NAN, LABELS, {}, "not finite"),
        (arrays(), LABELS[:-1], {}, "to match labels"),
        (arrays(), LABELS.astype(float), {}, "labels: got dtype"),
        (arrays(), LABELS - 1, {}, "labels: got classes -1 to 1"),
        (arrays(), LABELS, {"classes": ["a", "b"]}, "expected 0 to 1"),
        (arrays(), LABELS, {"splits": (0.5, 0.5)}, "splits: got 2"),
        (arrays(), LABELS, {"splits": (0.5, 0.4, 0.3)}, "add up to 1.2"),
        (arrays(), LABELS, {"splits": (0.98, 0.01, 0.01)}, "no sample for"),
        (arrays(), LABELS, {"splits": ([0, 1], [1], [2])}, "a sample twice"),
        (arrays(), LABELS, {"splits": ([0, 1], [2], [20])}, "outside 0 to 19"),
        (arrays(), LABELS, {"splits": ([0, 1], [2], [-1])}, "outside 0 to 19"),
        (arrays(), LABELS, {"splits": ([0, 1], [2], [3.0])}, "expected integers"),
        (arrays(), LABELS, {"splits": ([0, 1], [2], [])}, "no sample for"),
        (arrays(), LABELS, {"seed": 0.5}, "seed: got 0.5"),
        (arrays(), LABELS, {"masks": {"sound": MASK}}, "masks: got 'sound'"),
        (arrays(), LABELS, {"masks": {"audio": MASK.astype(int)}}, "expected bool"),
    ],
)
def test_what_does_not_fit_is_named(inputs, labels, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(inputs, labels, **options)


def test_a_file_holds_the_same(tmp_path):
    parts = {"train": np.arange(12), "validation": np.arange(12, 16), "test": np.arange(16, 20)}
    plain = {name: np.asarray(values) for name, values in arrays().items()}
    classes = np.array(["no", "yes", "maybe"])
    np.savez(
        tmp_path / "mine.npz", **plain, labels=LABELS, audio_padding=MASK, classes=classes, **parts
    )
    found = from_npz(tmp_path / "mine.npz")
    expected = from_arrays(plain, LABELS, masks={"audio": MASK}, splits=[*parts.values()])
    assert found.data_hash == expected.data_hash
    assert found.classes == ("no", "yes", "maybe")
    assert found.name == "mine"


def test_a_file_without_indices_is_split_by_the_seed(tmp_path):
    plain = {name: np.asarray(values) for name, values in arrays().items()}
    np.savez(tmp_path / "mine.npz", **plain, labels=LABELS)
    for seed in (0, 3):
        assert (
            from_npz(tmp_path / "mine.npz", seed=seed).data_hash
            == from_arrays(plain, LABELS, seed=seed).data_hash
        )


class Payload:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "objects", "unlabelled", "one index"])
def test_a_file_that_is_none_is_refused_and_not_run(kind, tmp_path, capsys):
    path = tmp_path / "mine.npz"
    np.savez(path, audio=np.zeros((N, 3)), labels=LABELS)
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "objects":
        np.savez(path, audio=np.array([Payload()] * N, dtype=object), labels=LABELS)
    elif kind == "unlabelled":
        np.savez(path, audio=np.zeros((N, 3)))
    else:
        np.savez(path, audio=np.zeros((N, 3)), labels=LABELS, train=np.arange(4))
    with pytest.raises(ValueError, match="path: got"):
        from_npz(path)
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_npz(tmp_path / "none.npz")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", ">i8", "<i4"])
def test_labels_of_every_integer_kind(dtype):
    data = from_arrays({"audio": np.zeros((10, 3))}, (np.arange(10) % 2).astype(dtype))
    assert data.classes == ("0", "1")


def test_arrays_of_another_byte_order_and_direction():
    values = np.arange(30.0).reshape(10, 3)
    plain = from_arrays({"audio": values}, np.arange(10) % 2).data_hash
    assert from_arrays({"audio": values.astype(">f8")}, np.arange(10) % 2).data_hash == plain
    backwards = np.ascontiguousarray(values[::-1])[::-1]
    assert from_arrays({"audio": backwards}, np.arange(10) % 2).data_hash == plain


def test_a_mask_has_the_length_of_its_modality():
    given = {"inputs": {"audio": np.zeros((10, 4, 3))}, "labels": np.arange(10) % 2}
    with pytest.raises(
        ValueError, match=r"masks\['audio'\]: got .*\[10, 9\], expected .*\[10, 4\]"
    ):
        from_arrays(**given, masks={"audio": np.zeros((10, 9), bool)})
    vectors = given | {"inputs": {"audio": np.zeros((10, 3)), "visual": np.zeros((10, 3))}}
    lacking = np.arange(10) < 2
    data = from_arrays(**vectors, masks={"audio": lacking})
    assert sum(int(split.padding["audio"].sum()) for split in
               (data.train, data.validation, data.test)) == 2  # fmt: skip


def test_values_beyond_single_precision_are_named():
    with pytest.raises(ValueError, match=r"inputs\['audio'\]: got values that are not finite"):
        from_arrays({"audio": np.full((10, 3), 1e300)}, np.arange(10) % 2)


@pytest.mark.parametrize("name", ["a.b", "type", "keys", "train", "both", "all", "", 0])
def test_a_name_that_a_model_can_not_have_is_refused(name):
    with pytest.raises(ValueError, match="inputs: got a modality called"):
        from_arrays({name: np.zeros((10, 3))}, np.arange(10) % 2)
