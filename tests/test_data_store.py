import hashlib
import warnings

import numpy as np
import pytest

from rollingq_core.data import store


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user"
    monkeypatch.setattr(store.platformdirs, "user_cache_path", lambda name: folder / name)
    monkeypatch.delenv("ROLLINGQ_DATA", raising=False)
    return folder / "rollingq"


def numbers():
    return {"a": np.arange(1000), "b": np.array(["x", "yz"])}


def test_argument_wins_over_environment_wins_over_user_folder(tmp_path, monkeypatch, user_folder):
    assert store.data_root() == user_folder
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path / "env"))
    assert store.data_root() == tmp_path / "env"
    assert store.data_root(tmp_path / "arg") == tmp_path / "arg"
    monkeypatch.setenv("ROLLINGQ_DATA", "")
    assert store.data_root() == user_folder


def test_a_read_only_root_keeps_its_cache_elsewhere(tmp_path, user_folder):
    root = tmp_path / "root"
    root.mkdir(mode=0o555)
    assert store.writable_root(root) == user_folder
    assert store.search_roots(root) == [root, user_folder]
    store.cached_arrays("n", "v", numbers, root)
    assert not list(root.iterdir())
    assert (user_folder / "cache" / "n-v.npz").is_file()


def test_a_writable_root_keeps_its_own_cache(tmp_path, user_folder):
    root = tmp_path / "not" / "there"
    store.cached_arrays("n", "v", numbers, root)
    assert [path.name for path in (root / "cache").iterdir()] == ["n-v.npz"]
    assert store.search_roots(root) == [root]


def test_arrays_are_built_once_a_version(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return numbers()

    first = store.cached_arrays("n", "v1", build, tmp_path)
    second = store.cached_arrays("n", "v1", build, tmp_path)
    assert len(calls) == 1
    for name, values in numbers().items():
        np.testing.assert_array_equal(first[name], values)
        np.testing.assert_array_equal(second[name], values)
    store.cached_arrays("n", "v2", build, tmp_path)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text"])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    store.cached_arrays("n", "v", numbers, tmp_path)
    path = tmp_path / "cache" / "n-v.npz"
    content = bytearray(path.read_bytes())
    content[500] ^= 0xFF
    whole = path.read_bytes()
    damaged = {"truncate": whole[:-300], "flip": content, "empty": b"", "text": b"hello"}
    path.write_bytes(damaged[damage])
    with pytest.warns(RuntimeWarning, match="damaged"):
        arrays = store.cached_arrays("n", "v", numbers, tmp_path)
    np.testing.assert_array_equal(arrays["a"], np.arange(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.cached_arrays("n", "v", lambda: pytest.fail("rebuilt twice"), tmp_path)


def test_a_pickle_in_the_cache_is_not_loaded(tmp_path):
    path = tmp_path / "cache" / "n-v.npz"
    path.parent.mkdir()
    np.savez(path, a=np.array([{"any": "object"}], dtype=object))
    with pytest.warns(RuntimeWarning, match="damaged"):
        arrays = store.cached_arrays("n", "v", numbers, tmp_path)
    np.testing.assert_array_equal(arrays["a"], np.arange(1000))


def test_an_unwritable_cache_still_gives_arrays(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="not written"):
        arrays = store.cached_arrays("n", "v", numbers, tmp_path)
    np.testing.assert_array_equal(arrays["a"], np.arange(1000))


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(store.np, "savez", full)
    with pytest.warns(RuntimeWarning, match="disk full"):
        store.cached_arrays("n", "v", numbers, tmp_path)
    assert not list((tmp_path / "cache").iterdir())


def test_fingerprint_sees_every_part_but_not_their_order():
    assert store.fingerprint(a=1, b="x") == store.fingerprint(b="x", a=1)
    assert len({store.fingerprint(a=1), store.fingerprint(a=2), store.fingerprint(b=1)}) == 3


def test_verifying_names_the_file_that_differs(tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"content")
    store.verify_file(path, hashlib.sha256(b"content").hexdigest())
    with pytest.raises(ValueError, match=r"data\.bin"):
        store.verify_file(path, hashlib.sha256(b"other").hexdigest())
