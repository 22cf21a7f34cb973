"""Other machines: git's line ends, no home, read-only folders, several processes, -OO."""

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from rollingq_core._files import one_process_at_a_time
from rollingq_core.data import digits, store
from rollingq_core.data.cache import building as cache_build

SOMEBODY = 12345
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}


def git(*arguments, at=None):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, *map(str, arguments)], cwd=at, check=True, capture_output=True)


def test_a_clone_with_windows_line_ends_loads_the_same_digits(tmp_path, monkeypatch):
    source, clone = tmp_path / "source", tmp_path / "clone"
    shutil.copytree(digits.FOLDER, source)
    git("init", "-q", at=source)
    git("add", ".", at=source)
    git("commit", "-q", "-m", "digits", at=source)
    git("clone", "-q", "-c", "core.autocrlf=true", source, clone)
    assert b"\r\n" in (clone / "index.csv").read_bytes()
    expected = digits.load(root=tmp_path / "a").data_hash
    monkeypatch.setattr(digits, "FOLDER", clone)
    # The same cache serves both, as their content is the same; another root builds it anew.
    assert digits.load(root=tmp_path / "a").data_hash == expected
    index = clone / "index.csv"
    index.write_bytes(index.read_bytes().replace(b"\r\n1", b"\r\n2", 1).replace(b",0,", b",1,", 1))
    with pytest.raises(ValueError, match=r"index\.csv has SHA-256"):
        digits.load(root=tmp_path / "a")


def test_clips_cut_by_an_index_with_windows_line_ends_are_the_same(tmp_path, monkeypatch):
    shutil.copytree(digits.FOLDER, tmp_path / "copy")
    lines = (tmp_path / "copy" / "index.csv").read_bytes().split(b"\n")[:20]
    hashes = {"m1.ogg": ""}
    found = []
    for end in (b"\n", b"\r\n"):
        (tmp_path / "copy" / "index.csv").write_bytes(end.join(lines) + end)
        monkeypatch.setattr(digits, "FOLDER", tmp_path / "copy")
        found.append(digits._extract(hashes))
    for name, values in found[0].items():
        np.testing.assert_array_equal(found[1][name], values)


def test_the_repository_keeps_its_line_ends_in_a_clone(root, tmp_path):
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    clone, data = tmp_path / "clone", Path("rollingq_core", "data")
    git("clone", "-q", "-c", "core.autocrlf=true", "--depth", "1", f"file://{root}", clone)
    for path in (data / "spoken_digits" / "index.csv", "README.md", ".ci/run"):
        assert b"\r" not in (clone / path).read_bytes(), path
    for path in (data / "spoken_digits" / "m1.ogg", data / "fsdd-recordings.sha256.gz"):
        assert (clone / path).read_bytes() == (root / path).read_bytes(), path


# As somebody who can't write the package's folder, and has no home that can be written.
HOMELESS = """
import os, sys, warnings
import numpy as np
from rollingq_core.__main__ import main
from rollingq_core.data import audio, store

audio.load_librosa()
print(os.environ.get("NUMBA_CACHE_DIR", "")[:5])
if "HOME" in os.environ:  # once is enough: without a cache, numba takes long to compile
    tone = np.sin(np.arange(4096) * 0.3).astype(np.float32)
    assert audio.log_mel(tone).shape == (32, 49)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(store.cached_arrays("n", "v", lambda: {"a": np.arange(3)})["a"].sum())
print(*[str(x.message) for x in caught if "cache" in str(x.message)])
main(["data", "prepare", "cremad"])
"""


def as_somebody(command, environment):
    return subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=300,
        user=SOMEBODY, group=SOMEBODY, extra_groups=[],
    )  # fmt: skip


def interpreter_for_all():
    """Return this version of Python where another user may run it, too."""
    if os.geteuid():
        pytest.skip("needs the rights to run a process as another user")
    version = "import sys; print(*sys.version_info[:2])"
    for python in (sys.executable, shutil.which("python3", path="/usr/bin")):
        try:
            if as_somebody([python, "-c", version], {}).stdout.split() == [
                str(part) for part in sys.version_info[:2]
            ]:
                return python
        except (OSError, TypeError):
            continue
    pytest.skip("another user may not run this version of Python")


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_without_a_home_it_works_or_names_the_variable_to_set(home):
    python = interpreter_for_all()
    environment = {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"], "PATH": os.environ["PATH"]}
    done = as_somebody([python, "-c", HOMELESS], environment | ({"HOME": home} if home else {}))
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("another user may not read the installed packages")
    printed = done.stdout.splitlines()
    assert len(printed) == 3, done.stderr
    assert printed[:2] == ["/tmp/", "3"]
    assert "not written" in printed[2]
    assert "ROLLINGQ_DATA" in printed[2]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("rollingq: ")]
    assert ("ROLLINGQ_DATA" if home is None else "CREMA-D") in line


def test_a_home_that_is_not_there_is_no_folder_called_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROLLINGQ_DATA", raising=False)
    monkeypatch.setattr(store.platformdirs, "user_cache_path", lambda name: Path("~/.cache") / name)
    for call in (store.data_root, store.writable_root, store.search_roots):
        with pytest.raises(OSError, match=r"no home folder; set .* ROLLINGQ_DATA"):
            call()
    with pytest.warns(RuntimeWarning, match="ROLLINGQ_DATA"):
        assert store.cached_arrays("n", "v", lambda: {"a": np.ones(2)})["a"].sum() == 2
    assert [*tmp_path.iterdir()] == []


def test_neither_root_nor_home_can_be_written(tmp_path, monkeypatch):
    for name in ("root", "home"):
        (tmp_path / name).mkdir(mode=0o555)
    monkeypatch.setattr(
        store.platformdirs, "user_cache_path", lambda name: tmp_path / "home" / name
    )
    with pytest.raises(OSError, match=r"can be written; set .* ROLLINGQ_DATA"):
        store.writable_root(tmp_path / "root")
    assert store.search_roots(tmp_path / "root") == [tmp_path / "root"]
    with pytest.warns(RuntimeWarning, match=r"not written.*ROLLINGQ_DATA"):
        assert (
            store.cached_arrays("n", "v", lambda: {"a": np.ones(2)}, tmp_path / "root")["a"].sum()
            == 2
        )


def test_a_complete_cache_in_a_read_only_root_is_read_without_a_lock(tmp_path, monkeypatch):
    root = tmp_path / "root"
    store.cached_arrays("n", "v", lambda: {"a": np.arange(3)}, root)
    for folder in (root / "cache", root):
        folder.chmod(0o555)
    monkeypatch.setattr(store, "one_process_at_a_time", lambda path: pytest.fail("locked"))
    monkeypatch.setattr(store.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    found = store.cached_arrays("n", "v", lambda: pytest.fail("built again"), root)
    assert found["a"].tolist() == [0, 1, 2]


def contents():
    names = [f"item-{number}" for number in range(6)]
    places = ["train", "train", "train", "train", "validation", "test"]
    return cache_build.Contents(
        labels=dict.fromkeys(names, 0),
        classes=("a",),
        splits={"s": dict(zip(names, places, strict=True))},
    )


def make(name):
    return {"audio": np.random.default_rng(int(name[-1])).normal(size=(2, 3)).astype(np.float32)}


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_caches_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store.cached_arrays("n", "v", lambda: {"a": np.arange(3)}, tmp_path / "root")
        cache_build.build(tmp_path / "root" / "new" / "c", contents(), make)
    finally:
        os.umask(before)
    paths = [*(tmp_path / "root").rglob("*")]
    assert {p.stat().st_mode & 0o777 for p in paths if p.is_file()} == {0o666 & ~umask}
    assert {p.stat().st_mode & 0o777 for p in paths if p.is_dir()} == {0o777 & ~umask}


# Whoever builds waits until the others wait for it, so that they really meet.
MEETING = """
import logging, os, signal, sys, time
from pathlib import Path
import numpy as np
from rollingq_core.data import store
from rollingq_core.data.cache import building
from tests import test_data_machines as here

kind, root, me, others = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

class Waiting(logging.Handler):
    def emit(self, record):
        (root / f"waiting-{me}").touch()

logging.getLogger("rollingq_core._files").addHandler(Waiting())

def meet():
    (root / f"building-{me}").touch()
    first = len([*root.glob("building-*")]) == 1
    deadline = time.monotonic() + 200
    while len([*root.glob("waiting-*")]) < others and time.monotonic() < deadline:
        time.sleep(0.01)
    if kind.startswith("killed") and first:
        os.kill(os.getpid(), signal.SIGKILL)

def arrays():
    meet()
    return {"a": np.arange(5)}

def make(name):
    if name == "item-0":
        meet()
    return here.make(name)

if kind.endswith("arrays"):
    assert store.cached_arrays("n", "v", arrays, root)["a"].tolist() == [0, 1, 2, 3, 4]
elif kind.endswith("cache"):
    assert len(building.build(root / "c", here.contents(), make)["names"]) == 6
else:
    found = store.fetch(os.environ["ADDRESS"], root / "file", None, "data")
    assert found.read_bytes() == b"content"
"""


def run_together(kind, root, count, **environment):
    root.mkdir(exist_ok=True)
    command = [sys.executable, "-c", MEETING, kind, str(root)]
    environment = ENVIRONMENT | environment
    processes = [
        subprocess.Popen(
            [*command, str(me), str(count - 1)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for me in range(count)
    ]
    said = [process.communicate(timeout=400)[1] for process in processes]
    assert not [*root.rglob(".*")], "a lock or a part is left"
    return [process.returncode for process in processes], said


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("arrays", 3), ("cache", 2)])
def test_of_processes_that_start_together_one_builds(tmp_path, kind, count):
    codes, said = run_together(kind, tmp_path / "root", count)
    assert codes == [0] * count, said
    assert len([*(tmp_path / "root").glob("building-*")]) == 1
    assert len([*(tmp_path / "root").glob("waiting-*")]) == count - 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["killed arrays", "killed cache"])
def test_a_process_killed_while_it_builds_lets_the_other_go_on(tmp_path, kind):
    codes, said = run_together(kind, tmp_path / "root", 2)
    assert sorted(codes) == [-signal.SIGKILL, 0], said
    assert len([*(tmp_path / "root").glob("building-*")]) == 2


@pytest.mark.slow
def test_of_processes_that_start_together_one_downloads(tmp_path, monkeypatch):
    root, asked = tmp_path / "root", []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            while not [*root.glob("waiting-*")]:
                threading.Event().wait(0.01)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"content")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{host.server_port}/file"
        codes, said = run_together("fetch", root, 2, ADDRESS=address, NO_PROXY="127.0.0.1")
        host.shutdown()
        thread.join()
    assert codes == [0, 0], said
    assert asked == ["/file"]


def test_a_lock_that_another_process_left_does_not_block(tmp_path):
    (tmp_path / ".lock.c").write_text("left by a process that was killed")
    with one_process_at_a_time(tmp_path / "c"):
        (tmp_path / "c").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.slow
def test_without_asserts_and_docstrings(tmp_path):
    script = (
        "import sys\nfrom rollingq_core.__main__ import main\n"
        "from rollingq_core.data import digits\n"
        "assert False\n"
        "print(len(digits.load(train_pairs=20, root=sys.argv[1]).train)); main(['data', '--help'])"
    )
    store_of_the_others = digits.load(root=tmp_path).data_hash
    done = subprocess.run(
        [sys.executable, "-OO", "-c", script, str(tmp_path)], env=ENVIRONMENT, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert store_of_the_others
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20\n")
