"""The configuration: defaults, the annotated example, and errors that name key, value and what is allowed."""

import json
import re
from pathlib import Path

import pytest
from ingled.__main__ import main
from ingled.config import Config, ConfigError, load

EXAMPLE = Path(__file__).parents[2] / "docs" / "ingled.example.toml"


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "ingled.toml"
    file.write_text(text)
    return load(file)


def error(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert re.match(rf"{tmp_path}/ingled.toml(:[0-9]+)?: ", message)
    return message.partition(": ")[2]


def test_without_a_file_there_is_the_built_in_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    config = load(None, environ={"HOME": "/home/me"})
    assert list(config.models) == ["ember"]
    assert config.default_model == "ember"
    assert config.models["ember"].preload
    assert config.socket == tmp_path / "ingle" / "ingle.sock"
    assert config.state == Path("/home/me/.local/state/ingle")
    spec = config.spec("ember")
    assert (spec.engine, spec.options["dtype"]) == ("vllm", "float32")
    assert Path(spec.source, "config.json").exists()


def test_the_annotated_example_is_right_and_tells_the_defaults() -> None:
    config = load(EXAMPLE)
    assert list(config.models) == ["ember", "qwen"]
    assert config.daemon == load(None).daemon
    spec = config.spec("qwen")
    assert spec.source == str(EXAMPLE.parent / "models/Qwen3-8B")
    assert spec.options["max_model_len"] == 16384
    assert spec.options["kv_cache_memory_bytes"] == 8 << 30
    assert spec.sampling == {"temperature": 0.7, "top_p": 0.8, "max_tokens": 2048}


def test_an_adapter_is_told_to_the_worker_of_its_base(tmp_path: Path) -> None:
    text = '[models.b]\nsource = "/b"\n[models.a]\nbase = "b"\nadapter = "x/y"\nsampling = {temperature = 0.5}\n'
    config = read(tmp_path, text)
    assert list(config.specs) == ["b"]
    assert config.specs["b"].adapters == {"a": str(tmp_path / "x/y")}
    (told,) = config.adapters.values()
    assert (told.model, told.path, told.sampling) == ("a", str(tmp_path / "x/y"), {"temperature": 0.5})


def test_a_socket_of_ones_own_has_a_runtime_folder_of_its_own(tmp_path: Path) -> None:
    config = load(None, socket=tmp_path / "s")
    assert config.runtime == tmp_path / "s.d"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = [", "not TOML"),
        ("[models.a]", "models.a.source is missing"),
        ('[models.a]\nbase = "b"', "models.a.adapter is missing"),
        ('[models.a]\nadapter = "b"', "models.a.base is missing"),
        ('[models.a]\nbase = "b"\nadapter = "x"', "models.a.base is 'b': there is no such model"),
        ('[models.a]\nbase = "b"\nadapter = "x"\ndtype = "half"', "models.a.dtype: an adapter runs in the worker"),
        (
            '[models.c]\nsource = "/c"\n[models.b]\nbase = "c"\nadapter = "x"\n[models.a]\nbase = "b"\nadapter = "x"',
            "models.a.base is 'b': that is an adapter itself",
        ),
        (
            '[models.b]\nsource = "/b"\nrunner = "pooling"\n[models.a]\nbase = "b"\nadapter = "x"',
            "models.a.base is 'b': adapters of models that make vectors",
        ),
        ('[models.a]\nsource = "/a"\nrunner = "pooling"\nfront = "core"', "models.a.front is 'core'"),
        ('[models.a]\nsource = "/a"\nengine = {runner = "pooling"}', "models.a.engine.runner: say models.a.runner"),
        ("[demon]", "demon: unknown key; did you mean 'daemon'? (allowed: daemon, models, plugins, hooks, rules)"),
        ("[daemon]\nlog_levl = 1", "daemon.log_levl: unknown key; did you mean 'log_level'?"),
        ("[daemon]\nlog_level = 'loud'", "daemon.log_level is 'loud': invalid enum value 'loud' (allowed: 'debug', "),
        ("[daemon]\ndrain = -1", "daemon.drain is -1: expected `float` >= 0"),
        ("[daemon]\nsocket = 'here'", "daemon.socket is 'here': expected an absolute path"),
        ("[daemon]\nmetrics = '0.0.0.0:80'", "daemon.metrics is '0.0.0.0:80': expected an absolute path of a unix"),
        ("rules = 5", "rules is 5: begin each rule with [[rules]]"),
        ("[[rules]]\nmay = []", "rules[0]: object missing required field `accounts`"),
        ("[[rules]]\naccounts = ['*']\nmay = ['all']", "rules[0].may[0] is 'all': invalid enum value 'all'"),
        ("[[rules]]\naccounts = ['user:a']", "rules[0].accounts has 'user:a': expected `uid:N`, the name of a user, "),
        ("[[rules]]\naccounts = ['*']\nwaiting = 0", "rules[0].waiting is 0: expected `int` >= 1"),
        ("daemon = 5", "daemon is 5: expected a table"),
        ("[models.a]\nsource = 5", "models.a.source is 5: expected `str`, got `int`"),
        ("[models.a]\nsource = 'x'\ncontext = 'long'", "models.a.context is 'long': expected `int | null`"),
        ("[models.a]\nsource = 'x'\ndtype = 'int3'", "(allowed: 'auto', 'bfloat16'"),
        ("[models.a]\nsource = 'x'\nsampling = {temperature = -1}", "models.a.sampling.temperature is -1: expected"),
        (
            "[models.a]\nsource = 'x'\nsampling = {temperatur = 1}",
            "models.a.sampling.temperatur: unknown key; did you mean 'temperature'",
        ),
        ("[models.a]\nsource = 'x'\naliases = [1]", "models.a.aliases[0] is 1: expected `str`"),
        ("[models.a]\nsource = 'x'\naliases = ['a']", "models.a.aliases[0] is 'a': models.a has this name already"),
        ("[models.a]\nsource = 'x'\naliases = ['$(x)']", "models.a.aliases[0]: a name has 1 to 128 printable"),
        ("[models.a]\nsource = 'builtin:coal'", "models.a.source is 'builtin:coal': the built-in model is"),
        ("[models.'a b']\nsource = 'x'", "models.a b: a name has 1 to 128 printable characters"),
        ("[models.a]\nsource = 'x'\nengine = {model = 'y'}", "models.a.engine.model: the daemon sets this itself"),
        (
            "[models.a]\nsource = 'x'\ncontext = 64\nengine = {max_model_len = 32}",
            "models.a.engine.max_model_len: models.a.context sets the same",
        ),
        (
            "[models.a]\nsource = 'x'\ndefault = true\n[models.b]\nsource = 'x'\ndefault = true",
            "models.b.default: models.a is the default already",
        ),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(tmp_path: Path, text: str, words: str) -> None:
    assert words in error(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is too long: it has [0-9]+ bytes, and a socket's path may have 107"):
        load(None, socket=tmp_path / ("x" * 120))


def test_the_command_ends_with_78_for_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ingled.toml"
    file.write_text("[demon]")
    assert main(["--config", str(file), "--check-config"]) == 78
    assert "did you mean 'daemon'?" in capsys.readouterr().err


def test_what_was_checked_is_told_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ingled.toml"
    file.write_text('[models.m]\nsource = "builtin:ember"\n[plugins.nowhere]\n')
    assert main(["--config", str(file), "--check-config", "--engine", "echo", "--json"]) == 78
    seen = capsys.readouterr()
    good, bad = json.loads(seen.out)["checked"]
    assert good == {"what": "models.m", "problem": None}
    assert bad["what"] == "plugins.nowhere" and f"plugins.nowhere: {bad['problem']}" in seen.err


@pytest.mark.vllm
def test_check_config_tells_the_engines_own_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ingled.toml"
    file.write_text(
        '[models.good]\nsource = "builtin:ember"\n[models.long]\nsource = "builtin:ember"\ncontext = 999999\n'
        '[models.gone]\nsource = "/nowhere"\n[models.odd]\nsource = "builtin:ember"\nengine = {max_sequences = 5}\n'
        '[models.pirate]\nbase = "good"\nadapter = "/no/pirate"\n'
    )
    assert main(["--config", str(file), "--check-config"]) == 78
    seen = capfd.readouterr()
    assert seen.out.splitlines() == ["models.good: good"]
    lines = {line.split(":")[1].strip(): line for line in seen.err.splitlines() if line.startswith("ingled: models.")}
    assert set(lines) == {"models.long", "models.gone", "models.odd", "models.pirate"}
    assert "999999" in lines["models.long"]
    assert "max_sequences" in lines["models.odd"]
    assert "/nowhere" in lines["models.gone"]
    assert "/no/pirate holds no adapter" in lines["models.pirate"]


def test_the_kv_cache_has_a_size_or_a_concurrency(tmp_path: Path) -> None:
    config = read(
        tmp_path, '[models.a]\nsource = "/a"\nkv_cache = "1.5 GiB"\n[models.b]\nsource = "/b"\nconcurrency = 2'
    )
    assert config.spec("a").options["kv_cache_memory_bytes"] == 3 << 29
    assert (config.spec("b").options, config.spec("b").concurrency) == ({}, 2)
    head = '[models.a]\nsource = "/a"\n'
    assert "models.a.concurrency: models.a.kv_cache sets" in error(
        tmp_path, f"{head}kv_cache = 9999999\nconcurrency = 1"
    )
    assert "models.a.kv_cache is 'much': expected bytes" in error(tmp_path, f'{head}kv_cache = "much"')
    assert "less than 1 MiB" in error(tmp_path, f'{head}kv_cache = "4kb"'.replace("kb", "KB"))
    both = f'{head}kv_cache = "1GiB"\nengine = {{kv_cache_memory_bytes = 5}}'
    assert "models.a.engine.kv_cache_memory_bytes: models.a.kv_cache sets the same" in error(tmp_path, both)
