"""What harmless programs print, where that can be told: an attack is often written down by echo and decoded later."""

import base64
import binascii
import re
import zlib
from collections.abc import Callable

from ingle_plugins.guard.environment import DECODED, DOWNLOADED, LONGEST, UNTOLD, told, untold
from ingle_plugins.guard.paths import UNKNOWN, wordset
from ingle_plugins.guard.programs import read
from ingle_plugins.guard.words import MARKS, unescape

FETCHERS = wordset("curl wget fetch aria2c lynx http https xh lwp-request GET curlie wget2 links elinks w3m")
_PASSES = wordset("cat tee head tail sort uniq pv less more bat tac nl fold fmt column strings iconv dos2unix")
_CHANGES = wordset("sed awk grep tr cut perl egrep fgrep gpg openssl jq envsubst rg xmllint yq gawk")


def printed(name: str, args: list[str], stdin: str | None) -> str:
    """Return what a command prints; marks stand for what cannot be told."""
    given = UNKNOWN if stdin is None else stdin
    if name in FETCHERS:
        return DOWNLOADED
    if name in _PASSES:
        return given if not [word for word in args if not word.startswith("-")] or name == "tee" else UNKNOWN
    if name in _CHANGES:
        return _translated(name, args, given)
    maker = _MAKERS.get(name)
    if maker is None:
        return UNKNOWN
    text = maker(args, given)
    return text[:LONGEST] if not UNTOLD.isdisjoint(text) else MARKS.sub("?", text)[:LONGEST]


def _echo(args: list[str], stdin: str) -> str:
    escapes, end = False, "\n"
    while args and re.fullmatch(r"-[neE]+", args[0]):
        escapes = escapes or "e" in args[0]
        end = "" if "n" in args[0] else end
        args = args[1:]
    text = " ".join(args)
    return (unescape(text) if escapes else text) + end


def _printf(args: list[str], stdin: str) -> str:
    if args[:1] == ["--"]:
        args = args[1:]
    if not args or args[0] == "-v":
        return ""
    form, values = unescape(args[0]), args[1:]
    places = len(re.findall(r"%-?[\d.]*[sbqdixX]", form))
    if not places:
        return form.replace("%%", "%")
    text = ""
    for at in range(0, max(1, len(values)), places):
        taken = iter(values[at : at + places])
        text += re.sub(r"%-?[\d.]*([sbqdixX])", lambda match, taken=taken: _place(match[1], next(taken, "")), form)  # type: ignore[misc]
        if len(text) > LONGEST:
            break
    return text.replace("%%", "%")


def _place(kind: str, value: str) -> str:
    return unescape(value) if kind == "b" else value


def _decoder(options: str, decode: Callable[[bytes], bytes]) -> Callable[[list[str], str], str]:
    wanted = set(options.split())

    def made(args: list[str], stdin: str) -> str:
        if wanted and not wanted & set(read(args, [], stop=False).dashes):
            return UNKNOWN
        if not told(stdin):
            return DOWNLOADED if DOWNLOADED in stdin else DECODED
        try:
            return decode(stdin.encode()).decode(errors="replace")
        except (ValueError, binascii.Error, zlib.error):
            return DECODED

    return made


def _base64(data: bytes) -> bytes:
    data = re.sub(rb"\s", b"", data)
    return base64.b64decode(data + b"=" * (-len(data) % 4))


def _base32(data: bytes) -> bytes:
    data = re.sub(rb"\s", b"", data)
    return base64.b32decode(data + b"=" * (-len(data) % 8))


def _xxd(data: bytes) -> bytes:
    return bytes.fromhex(data.decode())


def _rev(args: list[str], stdin: str) -> str:
    return "\n".join(line[::-1] for line in stdin.split("\n"))


def _translated(name: str, args: list[str], stdin: str) -> str:
    if name == "openssl":
        return _OPENSSL(args, stdin) if {"base64", "enc", "-base64", "-a"} & set(args) else untold(stdin)
    if name == "tr" and told(stdin) and len(args) == 2 and args[0] != "-d":
        source, into = (re.sub(r"(\w)-(\w)", _span, unescape(word)) for word in args)
        if source:
            into += into[-1:] * (len(source) - len(into))
            return stdin.translate({ord(old): new for old, new in zip(source, into, strict=False)})
    if name == "tr" and told(stdin) and len(args) == 2 and args[0] == "-d":
        return stdin.translate(dict.fromkeys(map(ord, unescape(args[1]))))
    return untold(stdin)


def _span(match: re.Match[str]) -> str:
    return "".join(map(chr, range(ord(match[1]), min(ord(match[2]), ord(match[1]) + 255) + 1)))


_DECODE64 = _decoder("d D decode", _base64)
_OPENSSL = _decoder("d", _base64)
_MAKERS: dict[str, Callable[[list[str], str], str]] = {
    "echo": _echo,
    "printf": _printf,
    "print": _echo,
    "base64": _DECODE64,
    "base32": _decoder("d D decode", _base32),
    "basenc": _DECODE64,
    "xxd": _decoder("r", _xxd),
    "uudecode": _decoder("", _base64),
    "rev": _rev,
    "gunzip": _decoder("", lambda data: zlib.decompress(data, 31)),
    "zcat": _decoder("", lambda data: zlib.decompress(data, 31)),
    "gzip": _decoder("d decompress", lambda data: zlib.decompress(data, 31)),
    "bunzip2": _decoder("", lambda data: b"\0"),
    "xz": _decoder("d decompress", lambda data: b"\0"),
    "which": lambda args, stdin: "\n".join(f"/usr/bin/{word}" for word in args),
    "whoami": lambda args, stdin: UNKNOWN,
    "dirname": lambda args, stdin: "/" if args[:1] == ["/"] else UNKNOWN,
    "basename": lambda args, stdin: args[0].rsplit("/", 1)[-1] if args else "",
    "yes": lambda args, stdin: " ".join(args) or "y",
    "true": lambda args, stdin: "",
    "pwd": lambda args, stdin: UNKNOWN,
}
