"""The places that name versions, files and the repository's address agree with each other."""

import ast
import contextlib
import email
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import (
    PackageNotFoundError,
    metadata,
    packages_distributions,
    requires,
)
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from rollingq_core._extras import needs
from rollingq_core.data import load_dataset
from scripts import install_cell, set_repository
from scripts.install_cell import EXTRAS_OF


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needed(project, *extras):
    """Return what the package and these extras need, by name; an extra may name another."""
    found = {}
    todo = [Requirement(line) for line in project["dependencies"]]
    todo += [Requirement(f"rollingq-core[{extra}]") for extra in extras]
    while todo:
        requirement = todo.pop()
        if canonicalize_name(requirement.name) == "rollingq-core":
            for extra in requirement.extras:
                lines = project["optional-dependencies"][extra]
                todo += [Requirement(line) for line in lines]
        else:
            found.setdefault(canonicalize_name(requirement.name), requirement)
    return found


@pytest.fixture(scope="module")
def requirements(project):
    return [*needed(project, *project["optional-dependencies"]).values()]


PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)")
CONSTRAINTS = ["constraints.txt", "constraints-oldest.txt", "constraints-colab.txt"]


def pinned(root, name):
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    pairs = [PIN.fullmatch(line).groups() for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.fixture(scope="module")
def pins(root):
    return pinned(root, "constraints.txt")


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_hold_names_and_exact_versions_only(root, name):
    for line in (root / name).read_text(encoding="utf-8").splitlines():
        assert PIN.fullmatch(line), line


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_pin_is_within_its_range(root, project, name):
    found = pinned(root, name)
    # Colab runs the chapters, and neither tests nor builds the book.
    colab = name == "constraints-colab.txt"
    extras = ["data", "plots"] if colab else project["optional-dependencies"]
    for library, requirement in needed(project, *extras).items():
        if library in found or not colab:
            assert requirement.specifier.contains(found[library]), str(requirement)


def test_the_oldest_versions_are_the_lowest_of_every_range(root, requirements):
    oldest = pinned(root, "constraints-oldest.txt")
    for requirement in requirements:
        (lowest,) = (one.version for one in requirement.specifier if one.operator == ">=")
        assert oldest[canonicalize_name(requirement.name)] == Version(lowest), str(requirement)


def test_colabs_own_versions_are_those_that_the_chapters_are_tried_with(root):
    colab = pinned(root, "constraints-colab.txt")
    known = {"torch": "2.9", "numpy": "2.0", "ipywidgets": "7.7.1", "ipython": "7.34"}
    known |= {"ipykernel": "6.17", "notebook": "6.5"}
    for name, version in known.items():
        assert f"{colab[name]}.".startswith(f"{version}."), name


def test_the_package_declares_ranges_not_pins(requirements):
    for requirement in requirements:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert ">=" in operators, str(requirement)
        assert not operators & {"==", "===", "~="}, str(requirement)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_leave_out_what_depends_on_the_machine(root, name):
    pins = pinned(root, name)
    assert not [one for one in pins if re.match(r"nvidia|cuda|triton|rollingq", one)]


def test_this_environment_is_the_pinned_one(pins, requirements):
    from importlib.metadata import PackageNotFoundError, version

    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        try:
            installed = Version(version(name))
        except PackageNotFoundError:
            pytest.fail(f"{name} is declared but not installed")
        assert installed.public == pins[name].public, name


def test_pins_install_on_the_oldest_python(pins, project):
    # Debian's stable Python is older than the patch release that some packages ask for.
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    for name in pins:
        with contextlib.suppress(PackageNotFoundError):
            needs = metadata(name).get("Requires-Python") or ""
            assert SpecifierSet(needs).contains(oldest), f"{name} needs Python {needs}"


def test_conda_environment_uses_the_same_constraints(root, project):
    environment = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[book,test]"]
    (python,) = (entry for entry in conda if entry.startswith("python="))
    lowest = Requirement(f"python{project['requires-python']}").specifier
    assert lowest.contains(python.removeprefix("python=") + ".0")


def test_make_installs_with_the_constraints(root):
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert "-c constraints.txt -e '.[book,test]'" in makefile


def third_party_imports(path):
    """Return the libraries that a file imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"rollingq_core"}


def package_files(root):
    package = root / "rollingq_core"
    return [
        (path, path.relative_to(package).parts[0].removesuffix(".py"))
        for path in sorted(package.rglob("*.py"))
    ]


def test_the_package_requires_torch_only(project):
    assert [*needed(project)] == ["torch"]
    assert {"train", "data", "book", "test", "all"} <= set(project["optional-dependencies"])


def test_one_library_has_one_range(project):
    ranges = {}
    for lines in [project["dependencies"], *project["optional-dependencies"].values()]:
        for requirement in map(Requirement, lines):
            if not requirement.extras:
                ranges.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


# A picture from a video, Kaldi's filter banks, TensorBoard's events and frozen features need one
# more library each.
OF_ONE_FILE = {
    "video.py": {"video"},
    "fbank.py": {"kinetics"},
    "log.py": {"tensorboard"},
    "imagenet.py": {"train"},
}


def test_what_a_room_imports_is_in_its_extra(root, project):
    providers = packages_distributions()
    for path, room in package_files(root):
        extras = EXTRAS_OF.get(room, set()) | OF_ONE_FILE.get(path.name, set())
        # Torch itself requires filelock.
        declared = {*needed(project, *extras), "filelock"}
        for module in third_party_imports(path):
            given = {canonicalize_name(name) for name in providers[module]}
            assert given & declared, f"{path.name} imports {module}, which is not in {extras}"


def test_a_chapter_installs_what_it_imports(root, project):
    providers = packages_distributions()
    for script in sorted((root / "notebooks").glob("[0-9]*.py")):
        extras = install_cell.extras(script.read_text(encoding="utf-8"))
        declared = set(needed(project, *extras))
        for module in third_party_imports(script) - {"IPython"}:
            given = {canonicalize_name(name) for name in providers[module]}
            assert given & declared, f"{script.name} imports {module}, and installs {extras}"


@pytest.mark.parametrize(
    ("source", "extras"),
    [
        ("import torch\nfrom rollingq_core import RollingQ", ""),
        ("from rollingq_core.data import load_dataset", "[data]"),
        ("from rollingq_core.settings import SETTINGS\nimport rollingq_core.plots", "[plots]"),
        ("from rollingq_core import evaluation", "[train]"),
        ("def f():\n    from rollingq_core.commands.evaluate import evaluate", "[data,train]"),
        ("from rollingq_core.plots import Table\nimport rollingq_core.data.digits", "[data,plots]"),
    ],
)
def test_the_first_cell_installs_the_extras_of_a_chapter(monkeypatch, source, extras):
    cell = install_cell.install_cell("https://github.com/a/b", source)
    asked = []
    shell = SimpleNamespace(run_line_magic=lambda magic, line: asked.append((magic, line)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    exec(cell, {})
    assert asked == [("pip", f'install -q "rollingq-core{extras} @ git+https://github.com/a/b"')]


def test_the_first_cell_is_written_into_both_files(root, tmp_path):
    for suffix in (".py", ".ipynb"):
        shutil.copy(root / f"notebooks/02_attention{suffix}", tmp_path)
    script = tmp_path / "02_attention.py"
    text, notebook = script.read_text(), nbformat.read(script.with_suffix(".ipynb"), 4)
    old = re.sub(r'"rollingq-core\[[a-z,]*\]', '"rollingq-core[nothing]', text)
    script.write_text(old)
    install_cell.write_cell(script)
    expected = install_cell.install_cell(set_repository.current(root), text)
    assert expected in script.read_text()
    written = nbformat.read(script.with_suffix(".ipynb"), 4)
    first, *others = (cell for cell in written.cells if cell.cell_type == "code")
    assert first.source == expected
    # Nothing else changes.
    assert others == [cell for cell in notebook.cells if cell.cell_type == "code"][1:]
    assert script.read_text().replace(expected, "") == re.sub(
        r"from importlib.util import find_spec\n.*?(?=\n\n# %%)", "", text, flags=re.DOTALL
    )
    install_cell.write_cell(script)
    assert nbformat.read(script.with_suffix(".ipynb"), 4) == written


def test_a_chapter_without_the_first_cell_is_named(tmp_path):
    script = tmp_path / "02_attention.py"
    script.write_text("# %%\nimport torch\n")
    with pytest.raises(ValueError, match=r"02_attention\.py: got no cell"):
        install_cell.write_cell(script)


def modules_of(names):
    """Return the modules of some libraries and of all that they require."""
    found, todo = set(), [*names]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        found.add(name)
        for line in requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return {
        module
        for module, names in packages_distributions().items()
        if found & {canonicalize_name(name) for name in names}
    }


def run_with(root, names, code):
    """Run code in a Python that finds some libraries, what they require, and the package."""
    hidden = set(packages_distributions()) - modules_of(names) - {"rollingq_core"}
    bare = f"""
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        seen = name.partition(".")[0] not in {hidden}
        return super().find_spec(name, path, target) if seen else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""
    done = subprocess.run(
        [sys.executable, "-c", bare + code], cwd=root, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORT_ALL = """
import importlib, json, pkgutil, sys
import torch, rollingq_core

found = {}
for one in pkgutil.walk_packages(rollingq_core.__path__, "rollingq_core.", onerror=str):
    # Each as the first: a room that fails leaves its finished files behind.
    for loaded in [name for name in sys.modules if name.startswith("rollingq_core")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(one.name)
    except ImportError as error:
        found[one.name] = str(error)
print(json.dumps(found))
"""


def test_each_room_names_its_extra_where_only_torch_is_installed(root):
    missing = json.loads(run_with(root, ["torch"], IMPORT_ALL))
    told = {}
    for module, message in missing.items():
        room = module.split(".")[1]
        if room != "commands":  # the command line speaks for them
            told[room] = message
            named = re.fullmatch(
                r'\w+ is missing; install it with: pip install "rollingq-core\[(.+)\]"', message
            )
            assert named, (module, message)
            assert set(named[1].split(",")) == EXTRAS_OF[room], (module, message)
    assert set(told) == set(EXTRAS_OF) - {"commands"}


@pytest.mark.slow
@pytest.mark.parametrize("extras", ["train", "data", "plots", "data,train"])
def test_a_room_needs_no_more_than_its_extra(root, project, extras):
    given = {*extras.split(",")} | ({"train"} if extras == "plots" else set())
    missing = json.loads(run_with(root, needed(project, *given), IMPORT_ALL))
    rooms = [room for room, wanted in EXTRAS_OF.items() if wanted <= given]
    assert rooms
    # The one figure that trains what it shows needs data, too, and says so.
    told = missing.pop("rollingq_core.explorer._live", "[train,data]")
    assert "plots" not in given or "[train,data]" in told
    assert not [name for name in missing if name.split(".")[1] in rooms], missing


COMMAND_LINES = {
    "train --out runs": "train,data",
    "evaluate runs --test noise": "train,data",
    "reproduce grid": "train,data",
    "data verify cremad": "data,video",
    "--help": "train,data",
}


def test_the_command_line_names_the_extras_in_one_line(root):
    code = f"""
import contextlib, io, json
from rollingq_core.__main__ import main

told = []
for line in {[*COMMAND_LINES]}:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(line.split())
        except SystemExit as end:
            told.append((end.code, said.getvalue()))
print(json.dumps(told))
"""
    told = json.loads(run_with(root, ["torch"], code))
    for (status, said), extras in zip(told, COMMAND_LINES.values(), strict=True):
        assert status == 1
        named = f'is missing; install it with: pip install "rollingq-core[{extras}]"'
        assert re.fullmatch(rf"rollingq: \w+ {re.escape(named)}\n", said)


@pytest.mark.parametrize("library", ["librosa", "sklearn"])
def test_a_dataset_names_its_extra(monkeypatch, tmp_path, library):
    # Nothing is cached there, so that the sounds and pictures must be read.
    monkeypatch.setenv("ROLLINGQ_DATA", str(tmp_path))
    for name in [name for name in sys.modules if name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        load_dataset("digits")
    assert str(caught.value) == (
        f'{library} is missing; install it with: pip install "rollingq-core[data]"'
    )


def test_a_missing_module_of_our_own_is_not_blamed_on_an_extra():
    ours = pytest.raises(ModuleNotFoundError, match=r"No module named 'rollingq_core\.nothing'")
    with ours, needs("data"):
        import rollingq_core.nothing  # noqa: F401


def test_version_is_one(root, project):
    import rollingq_core

    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert rollingq_core.__version__ == project["version"] == citation["version"]
    assert project["version"] in (root / "LICENSE-prose").read_text(encoding="utf-8")


def test_command_line_entry_point_resolves(project):
    from importlib import import_module

    module, _, function = project["scripts"]["rollingq"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_every_place_names_the_one_repository_address(root, project):
    url = set_repository.current(root)
    slug = set_repository.slug(url)
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert citation["repository-code"] == url
    assert project["urls"]["Repository"] == project["urls"]["Homepage"] == url
    assert project["urls"]["Issues"] == f"{url}/issues"
    assert f"https://colab.research.google.com/github/{slug}/blob/main/" in readme
    assert f"https://mybinder.org/v2/gh/{slug}/main" in readme
    assert f'"rollingq-core @ git+{url}"' in readme


@pytest.mark.parametrize("path", ["LICENSE", "LICENSE-prose", "CITATION.cff", "README.md"])
def test_repository_has(root, path):
    assert (root / path).stat().st_size > 0


def test_setting_the_repository_changes_every_place(root, tmp_path):
    old = set_repository.current(root)
    for path in set_repository.derived(root):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
    set_repository.set_repository("https://github.com/someone/elsewhere", tmp_path)
    assert set_repository.current(tmp_path) == "https://github.com/someone/elsewhere"
    for path in set_repository.derived(tmp_path):
        text = path.read_text(encoding="utf-8")
        assert set_repository.slug(old) not in text, path.name
        assert "someone/elsewhere" in text, path.name


@pytest.mark.parametrize(
    "url", ["", "github.com/a/b", "https://example.org/a/b", "https://github.com/a"]
)
def test_setting_the_repository_refuses_other_addresses(url):
    with pytest.raises(ValueError, match="expected https://github"):
        set_repository.slug(url)


def tracked_files(root):
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [root / name for name in listed.stdout.split("\0") if name]


def test_no_file_names_a_home_folder_or_a_package_index(root):
    # Put together from pieces, so that this file does not name them either.
    hosts = ["pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian"]
    folders = ["/" + "root/", "/" + "home/", "/" + "work/", "/" + "Users/"]
    pattern = re.compile("|".join(re.escape(word) for word in hosts + folders))
    for path in tracked_files(root):
        if path.is_file() and path.suffix not in {".ogg", ".gz", ".npz", ".png"}:
            found = pattern.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path.relative_to(root)}: {found.group(0)}"


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=root, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_requires_torch_only(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    told = email.message_from_bytes(wheel.read(name))
    always = [line for line in map(Requirement, told.get_all("Requires-Dist")) if not line.marker]
    assert [line.name for line in always] == ["torch"]
    assert {"train", "data", "book", "test", "all"} <= set(told.get_all("Provides-Extra"))


def test_wheel_carries_what_the_chapters_read(root, wheel):
    # As on Colab, where the package is installed from the repository and nothing is cloned.
    names = set(wheel.namelist())
    assert "rollingq_core/py.typed" in names
    notebooks = "".join(p.read_text() for p in (root / "notebooks").glob("*.py"))
    records = set(re.findall(r'read_record\("([\w-]+)"\)', notebooks))
    assert records
    assert names >= {f"rollingq_core/results/{record}.json" for record in records}
    scripts = (root / "rollingq_core/explorer").glob("*.js")
    assert names >= {f"rollingq_core/explorer/{script.name}" for script in scripts}
    sounds = {p.name for p in (root / "rollingq_core/data/spoken_digits").iterdir()}
    assert names >= {f"rollingq_core/data/spoken_digits/{sound}" for sound in sounds}
