"""The `ingled` command: reads options and configuration, then runs the broker."""

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingle import __version__

from ingled import journal, link
from ingled.config import Config, ConfigError, load
from ingled.config.layers import default_files
from ingled.config.tables import ENGINES
from ingled.link import Plugin

EPILOG = """\
Without options ingled runs for this user, with the built-in model, and listens at
$XDG_RUNTIME_DIR/ingle/ingle.sock. A configuration is read from --config, or from what there is
of /etc/ingle/ingled.toml, /etc/ingle/ingled.d/*.toml and $XDG_CONFIG_HOME/ingle/ingled.toml, of
which the later win; docs/configuration.md explains it. SIGHUP and `ingle reload` read it anew.

SIGTERM, SIGINT and `ingle shutdown` drain: new requests are refused, running ones may
finish for `daemon.drain` seconds. A second signal ends at once. SIGUSR1 leaves at once with
models and requests running, for the daemon that comes next.

`ingled unit --user` prints units for a service of your own, with --install it installs them.

exit status: 0 stopped as asked, 1 cannot run (another daemon, no socket, no rights),
2 wrong options, 78 wrong configuration.
"""
EX_CONFIG = 78


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    options = argparse.ArgumentParser(
        prog="ingled",
        description="Keep language models warm and serve them on a socket of this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--config", type=Path, metavar="FILE", help="configuration (TOML)")
    options.add_argument("--socket", type=Path, metavar="PATH", help="where to listen")
    options.add_argument("--state-dir", type=Path, metavar="DIR", help="where to keep what outlives a restart")
    options.add_argument("--engine", choices=ENGINES, default="vllm", help="engine of all models; echo is for tests")
    options.add_argument("--check-config", action="store_true", help="check the configuration and say what is wrong")
    options.add_argument("--json", action="store_true", help="with --check-config: say it as JSON")
    options.add_argument(
        "--replace", action="store_true", help="take over from a running daemon: models stay warm, requests go on"
    )
    options.add_argument(
        "--nursery",
        choices=("child", "unit"),
        default="child",
        help="unit: the service manager starts the nursery (docs/service.md)",
    )
    options.add_argument(
        "--hooks",
        type=Path,
        metavar="DIR",
        help="folder in which hook hosts meet the daemon that the service manager runs for another account "
        "(docs/service.md); without it they are the daemon's children",
    )
    options.add_argument("--version", action="version", version=f"ingled {__version__}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["unit"]:
        from ingled import unit

        return unit.main(arguments[1:])
    args = parser().parse_args(arguments)
    try:
        config = read(args)
    except ConfigError as error:
        if args.check_config and args.json:
            tell_as_json([("configuration", str(error))])
        print(f"ingled: {error}", file=sys.stderr)
        return EX_CONFIG
    if args.check_config:
        return check(config, as_json=args.json)
    journal.configure(config.daemon.log_level, "ingled")
    gc.disable()  # what is imported now stays; `run` enables it again
    from ingled.broker.listen import CannotListen
    from ingled.broker.place import Place
    from ingled.broker.run import run
    from ingled.hand_over import WillNot, ask_to_hand_over

    try:
        if args.replace:
            ask_to_hand_over(config.socket)
        as_unit, hosts = args.nursery == "unit", args.hooks
        place = Place(__version__, args.replace, as_unit, hosts, lambda _: read(args), lambda: files(args))
        return run(config, place)
    except (CannotListen, WillNot) as error:
        print(f"ingled: {error}", file=sys.stderr)
        return 1


def read(args: argparse.Namespace) -> Config:
    """Read the configuration that the options name, or the machine's and the user's. Raises ConfigError."""
    return load(files(args), socket=args.socket, state=args.state_dir, engine=args.engine)


def files(args: argparse.Namespace) -> list[Path]:
    """Return the files that the configuration is in."""
    return [args.config] if args.config else default_files()


def check(config: Config, *, as_json: bool = False) -> int:
    """Say whether every model's options are good, in the engine's own words; returns the exit status."""
    try:
        found = list(problems(config))
    except RuntimeError as error:
        if as_json:
            tell_as_json([("engine", str(error))])
        print(f"ingled: the engine cannot be asked: {error}", file=sys.stderr)
        return 1
    if as_json:
        tell_as_json(found)
    for what, problem in found:
        if problem:
            print(f"ingled: {what}: {problem}", file=sys.stderr)
        elif not as_json:
            print(f"{what}: good")
    return EX_CONFIG if any(problem for _, problem in found) else 0


def problems(config: Config) -> Iterator[tuple[str, str]]:
    """Look at each model and plugin; yields its table and what is wrong with it, or nothing. Raises RuntimeError when
    the engine cannot be asked.
    """
    from ingled.doctor import ask_engine, problem_of_adapter

    for name, plan in zip(config.specs, ask_engine(config), strict=True):
        yield f"models.{name}", plan.reason or ""
    for name in config.adapters:
        yield f"models.{name}", problem_of_adapter(config, name)
    for plugin in _plugins(config):
        yield f"plugins.{plugin.name}", plugin.problem


def tell_as_json(found: Sequence[tuple[str, str]]) -> None:
    """Print what was checked, and what is wrong with each."""
    print(json.dumps({"checked": [{"what": what, "problem": problem or None} for what, problem in found]}))


def _plugins(config: Config) -> list[Plugin]:
    """Return what a throw-away hook host says of the plugins."""
    command = [sys.executable, "-P", "-m", "ingled.hooks", "--check"]
    done = subprocess.run(command, input=link.encode(config.setup), capture_output=True, check=False)
    try:
        offers = link.decode_from_peer(done.stdout)
    except ValueError:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        return [Plugin("*", problem=f"the hook host cannot be asked: {why[-1] if why else done.returncode}")]
    return offers.plugins if isinstance(offers, link.Offers) else []


if __name__ == "__main__":
    sys.exit(main())
