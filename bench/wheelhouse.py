"""Bring vLLM to a machine without internet: which wheels it lacks, fetched, and cut into pieces that can be carried.

    python -m bench.wheelhouse vllm==0.26.0 --python 3.12 --glibc 2.39 \\
        --installed bench/gpu/installed-python3.12-torch2.11.0-cu130.txt --out wheelhouse

`--installed` is what `pip list --format=freeze` prints on that machine; what is there and suits stays, torch with its
CUDA above all. A line without a version counts as there where nobody asks for a certain version. What ingle itself
needs is added. pip fetches with whatever configuration it has here; nothing is installed here.

The folder gets `wheels.tar.000` and so on, `SHA256SUMS` of them, `plan.json`, and `install.sh`, which checks the
pieces, joins them, and installs the wheels into a folder `site` beside it, over nothing that the machine has.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from bench.machine import ROOT
from bench.pieces import cut, sha256
from bench.resolution import Demand, NoSolution, Wheel, read_installed, resolve
from bench.table import markdown

MIB = 1 << 20
PIECE_MIB = 60
LIMIT_MIB = 64


@dataclass(frozen=True)
class Target:
    """The machine that is to get the wheels."""

    python: str
    glibc: tuple[int, int] = (2, 28)
    machine: str = "x86_64"

    @property
    def markers(self) -> dict[str, str]:
        """Return what markers of requirements are evaluated with."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    @property
    def options(self) -> list[str]:
        """Return what tells pip of this machine; pip takes a platform by its very name, older ones do not follow."""
        major, minor = self.glibc
        names = [f"manylinux_{major}_{one}_{self.machine}" for one in range(minor, 4, -1)]
        names += [f"{old}_{self.machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
        platforms = [part for name in names for part in ("--platform", name)]
        return ["--python-version", self.python, "--implementation", "cp", "--only-binary", ":all:", *platforms]


def ours(project: str) -> list[str]:
    """Return what ingle's daemon needs, from the text of `pyproject.toml`."""
    table = tomllib.loads(project)["project"]
    return [*table["dependencies"], *table["optional-dependencies"]["daemon"]]


class Pip:
    """The index that pip is configured for."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def look(self, requirements: Sequence[str]) -> dict[str, Wheel]:
        """Implements `Look`; downloads metadata alone where the index has it apart."""
        with tempfile.TemporaryDirectory(prefix="ingle-wheels-") as folder:
            report = Path(folder) / "report.json"
            self._run(
                "install", "--dry-run", "--ignore-installed", "--report", str(report), "-t", folder, *requirements
            )
            found = json.loads(report.read_text())["install"]
        wheels: dict[str, Wheel] = {}
        for one in found:
            told = one["metadata"]
            hashes = one["download_info"].get("archive_info", {}).get("hashes", {})
            wheel = Wheel(told["name"], told["version"], hashes.get("sha256", ""), tuple(told.get("requires_dist", ())))
            wheels[canonicalize_name(told["name"])] = wheel
        return wheels

    def download(self, wheels: Iterable[Wheel], folder: Path) -> None:
        """Download wheels and compare them with what the index said of them. Raises NoSolution."""
        self._run("download", "-d", str(folder), *(f"{wheel.name}==={wheel.version}" for wheel in wheels))
        present = {sha256(file) for file in folder.glob("*.whl")}
        wrong = [wheel.name for wheel in wheels if wheel.sha256 and wheel.sha256 not in present]
        if wrong:
            raise NoSolution(f"not what the index said: {', '.join(wrong)}")

    def _run(self, verb: str, *rest: str) -> None:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", "--no-deps"]
        # What this machine's own packages are bound to is no matter for another machine.
        environ = {**os.environ, "PIP_CONSTRAINT": os.devnull}
        done = subprocess.run([*command, *self._target.options, *rest], capture_output=True, text=True, env=environ)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr[-1000:]]
            raise NoSolution("pip: " + "\n".join(line.removeprefix("ERROR: ") for line in said))


def plan(
    chosen: Mapping[str, Wheel], wanted: Mapping[str, Demand], installed: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """Return the wheels for people and JSON: which, for whom, and what they replace."""
    return [
        {
            "name": wheel.name,
            "version": wheel.version,
            "sha256": wheel.sha256,
            "for": wanted[name].told,
            "there": "" if name not in installed else installed[name] or "some version",
        }
        for name, wheel in sorted(chosen.items())
    ]


def _some(names: Sequence[str]) -> str:
    """Return the first few names, and how many there are beside them."""
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def table(lines: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> str:
    """Return the plan as a table."""
    rows = [
        [
            one["name"],
            one["version"],
            one["there"] or "-",
            f"{sizes[one['sha256']] / MIB:,.1f}" if one["sha256"] in sizes else "-",
            _some(list(one["for"])),
        ]
        for one in lines
    ]
    return markdown(["wheel", "version", "there", "MiB", "for"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Resolve, fetch and cut; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "wanted", nargs="+", metavar="REQUIREMENT", help="such as vllm==0.26.0; more of them bound others"
    )
    parser.add_argument("--python", default="3.12", help="of that machine (default: 3.12)")
    parser.add_argument("--glibc", default="2.28", help="of that machine, `ldd --version` says it (default: 2.28)")
    parser.add_argument("--machine", default="x86_64", choices=("x86_64", "aarch64"))
    parser.add_argument("--installed", type=Path, metavar="FILE", help="what `pip list --format=freeze` says there")
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"), help="an empty folder")
    parser.add_argument(
        "--piece", type=float, default=PIECE_MIB, metavar="MIB", help="of a piece at most (default: 60)"
    )
    parser.add_argument("--plan", action="store_true", help="only say which wheels it would be")
    args = parser.parse_args(argv)
    if not 0 < args.piece < LIMIT_MIB:
        parser.error(f"--piece is {args.piece:g}: a piece has less than {LIMIT_MIB} MiB")
    if args.out.exists() and any(args.out.iterdir()) and not args.plan:
        parser.error(f"{args.out} is not empty: name another folder, or remove it")
    major, _, minor = args.glibc.partition(".")
    target = Target(args.python, (int(major), int(minor)), args.machine)
    installed = read_installed(args.installed.read_text()) if args.installed else {}
    roots = [*args.wanted, *ours((ROOT / "pyproject.toml").read_text())]
    pip = Pip(target)
    try:
        chosen, wanted = resolve(roots, installed, target.markers, pip.look)
        lines = plan(chosen, wanted, installed)
        if args.plan:
            print(table(lines, {}))
            return 0
        args.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=args.out) as folder:
            pip.download(list(chosen.values()), Path(folder))
            wheels = list(Path(folder).glob("*.whl"))
            sizes = {sha256(file): file.stat().st_size for file in wheels}
            pieces = cut(wheels, args.out, int(args.piece * MIB))
    except NoSolution as error:
        print(f"wheelhouse: {error}", file=sys.stderr)
        return 1
    (args.out / "plan.json").write_text(json.dumps({"target": vars(target), "wheels": lines}, indent=1) + "\n")
    print(table(lines, sizes))
    total = sum(file.stat().st_size for file in pieces)
    print(f"\n{len(wheels)} wheels, {total / MIB:,.0f} MiB in {len(pieces)} pieces in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
