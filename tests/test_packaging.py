"""The places that name versions, files and the repository's address agree with each other."""

import ast
import contextlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from scripts import set_repository


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def requirements(project):
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    return [Requirement(line) for line in lines]


@pytest.fixture(scope="module")
def pins(root):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").split()
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line).groups() for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_constraints_hold_names_and_exact_versions_only(root):
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_each_direct_dependency_is_pinned_within_its_range(requirements, pins):
    for requirement in requirements:
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (str(requirement), str(version))


def test_the_package_declares_ranges_not_pins(requirements):
    for requirement in requirements:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert ">=" in operators, str(requirement)
        assert not operators & {"==", "===", "~="}, str(requirement)


def test_constraints_leave_out_what_depends_on_the_machine(pins):
    assert not [name for name in pins if re.match(r"nvidia|cuda|triton|rollingq", name)]


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


def third_party_imports(folder):
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"rollingq_core"}


def test_what_the_package_imports_is_declared(root, project):
    # The extra is for what is imported only where it is there.
    lines = project["dependencies"] + project["optional-dependencies"]["video"]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = packages_distributions()
    for module in third_party_imports(root / "rollingq_core"):
        given = {canonicalize_name(name) for name in providers[module]}
        assert given & declared, f"{module} is imported but not declared"


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


def test_readme_puts_rollingq_into_a_layer_of_ones_own_in_five_lines(root):
    (example,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert [int(n) for n in re.findall(r"  # (\d)$", example, re.MULTILINE)] == [1, 2, 3, 4, 5]
    added = [line for line in example.splitlines() if re.search("olling|Rotation", line)]
    assert all(re.search(r"  # \d$", line) for line in added), "an unnumbered line is needed too"
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, check=True, timeout=120
    )
    assert "count=1" in done.stdout


def test_wheel_carries_what_the_chapters_read(root, tmp_path):
    # As on Colab, where the package is installed from the repository and nothing is cloned.
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    notebooks = "".join(p.read_text() for p in (root / "notebooks").glob("*.py"))
    records = set(re.findall(r'read_record\("([\w-]+)"\)', notebooks))
    assert records
    assert names >= {f"rollingq_core/results/{record}.json" for record in records}
    scripts = (root / "rollingq_core/explorer").glob("*.js")
    assert names >= {f"rollingq_core/explorer/{script.name}" for script in scripts}
    sounds = {p.name for p in (root / "rollingq_core/data/spoken_digits").iterdir()}
    assert names >= {f"rollingq_core/data/spoken_digits/{sound}" for sound in sounds}
