"""Arguments: what stands in a request and what of it stands in the command. Pure; randomness comes in.

Every argument is made of primitives (words, numbers, extensions). A checksum says of each primitive whether it is held
out: training never sees those, and the test sees no other.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench.ember.templates import template_words
from bench.ember.words import LETTERS, word

SMALL: Final = 12
"""Numbers up to this one are in training always: people spell them."""
SPELLED: Final = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
ORDINALS: Final = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
]
KINDS: Final = {
    "py": ("python files", "python scripts", "python sources"),
    "txt": ("text files", "plain text files"),
    "md": ("markdown files", "markdown documents"),
    "js": ("javascript files",),
    "sh": ("shell scripts",),
    "jpg": ("jpg pictures", "jpg images", "jpg photos"),
    "png": ("png pictures", "png images"),
    "log": ("log files", "logs"),
    "pdf": ("pdf documents", "pdfs"),
    "html": ("html pages", "web pages"),
    "csv": ("csv tables",),
    "mp3": ("mp3 songs", "mp3s"),
    "rs": ("rust files", "rust sources"),
    "c": ("c sources", "c files"),
    "json": ("json documents",),
    "zip": ("zip archives", "zips"),
}
EXTENSIONS: Final = [
    *KINDS,
    "xml", "yaml", "yml", "toml", "ini", "conf", "cfg", "css", "go", "java", "cpp", "h", "gif", "svg", "webp", "wav",
    "ogg", "mp4", "mkv", "avi", "tar", "gz", "bak", "tmp", "old", "orig", "swp", "pyc", "so", "db", "sql", "doc",
    "docx", "odt", "tex", "bib", "iso", "bin", "dat", "lock", "ts", "rb", "php", "lua",
]  # fmt: skip
PORTS: Final = (22, 25, 53, 80, 443, 631, 3000, 3306, 5000, 5432, 6379, 8000, 8080, 8443, 8888, 9000)
DOMAINS: Final = ("org", "com", "net", "io", "de", "eu", "dev")
NAMED: Final = {
    "user": [
        "root", "alice", "bob", "carol", "dave", "eve", "www-data", "postgres", "nobody", "guest", "mary", "peter",
    ],
    "name": [
        "nginx", "vim", "python3", "node", "bash", "ssh", "firefox", "docker", "cron", "postgres", "redis", "make",
        "gcc", "curl", "cups", "apache2",
    ],
    "var": [
        "HOME", "PATH", "USER", "SHELL", "LANG", "EDITOR", "TERM", "TMPDIR", "PYTHONPATH", "DISPLAY",
    ],
    "mode": [
        "644", "755", "600", "700", "640", "750", "664", "775", "444", "400", "u+w", "g+w", "a+r", "o-r", "go-w",
        "u+x", "ug+rw",
    ],
    "branch": [
        "main", "master", "develop", "staging",
    ],
}  # fmt: skip
HERE: Final = ("this folder", "the current folder", "this directory", "the current directory", "here")
HOME: Final = ("my home directory", "my home folder", "the home directory", "my home")


TEMPLATE_WORDS: Final = template_words()


def held_out(primitive: str) -> bool:
    """Say whether training must not see this primitive.

    Never held out is what people have words for, and the words of templates: each is one token, and must be copied once
    to be copied ever.
    """
    if primitive in KINDS or primitive.lower() in TEMPLATE_WORDS or (primitive.isdecimal() and int(primitive) <= SMALL):
        return False
    return zlib.crc32(primitive.lower().encode()) % 8 == 0


@dataclass
class Argument:
    """A value as commands write it, with the primitives that it is made of."""

    value: str
    primitives: tuple[str, ...]
    special: str = ""
    """How a request says it where that is not the value itself: `here`."""


@dataclass
class Maker:
    """Makes arguments for training, or for the test."""

    dice: random.Random
    test: bool
    _used: list[str] = field(default_factory=list)

    def argument(self, key: str) -> Argument:
        """Return a new argument for a slot."""
        self._used = []
        if key == "dir" and not self.test and self.dice.random() < 0.12:
            value, ways = self.dice.choice([(".", HERE), (".", HERE), ("~", HOME)])
            return Argument(value, (), self.dice.choice(ways))
        value = MAKERS[key](self)
        return Argument(value, tuple(self._used))

    def keep(self, make: Callable[[random.Random], str]) -> str:
        """Make primitives until one is on the right side of the split."""
        while held_out(found := make(self.dice)) != self.test:
            pass
        self._used.append(found)
        return found

    def word(self) -> str:
        """Return a word in small letters."""
        if not self.test and self.dice.random() < 0.3:
            return self.keep(lambda dice: dice.choice(TEMPLATE_WORDS))
        return self.keep(word)

    def cased(self) -> str:
        """Return a word, often in small letters, and sometimes two of them joined."""
        found, way = self.word(), self.dice.random()
        if way < 0.12:
            return found.capitalize()
        if way < 0.2:
            return found.upper()
        if way < 0.3:
            return found + self.dice.choice("_-") + self.word()
        return found

    def number(self, low: int, high: int) -> str:
        """Return a number, rather a small one."""

        def roll(dice: random.Random) -> str:
            near = dice.random() < 0.6 and low < 40
            return str(dice.randint(low, min(high, 40) if near else high))

        return self.keep(roll)

    def named(self, key: str, share: float) -> str | None:
        """Return a well-known value now and then."""
        if self.dice.random() < share and any(held_out(one) == self.test for one in NAMED[key]):
            return self.keep(lambda dice: dice.choice(NAMED[key]))
        return None

    def ending(self) -> str:
        """Return the ending of a file that is no archive."""
        while (found := self.extension()) in ("zip", "tar", "gz", "tgz"):
            self._used.remove(found)
        return "." + found

    def extension(self) -> str:
        """Return a file extension."""

        def roll(dice: random.Random) -> str:
            if dice.random() < 0.7:
                return dice.choice(EXTENSIONS)
            return "".join(dice.choice(LETTERS) for _ in range(dice.randint(1, 4)))

        return self.keep(roll)

    def stem(self) -> str:
        """Return the name of a file without its extension."""
        found = self.cased()
        if self.dice.random() < 0.15:
            found += self.dice.choice(("", "_", "-", ".")) + self.number(1, 2030)
        return found

    def path(self) -> str:
        """Return the path of a folder."""
        parts = [self.cased() for _ in range(self.dice.choice((1, 1, 1, 1, 2, 2, 3)))]
        begin = self.dice.random()
        return ("/" if begin < 0.18 else "~/" if begin < 0.24 else "") + "/".join(parts)

    def file(self, ending: str | None = None) -> str:
        """Return the path of a file."""
        folder = self.path() + "/" if self.dice.random() < 0.2 else ""
        if ending is None:
            ending = self.ending() if self.dice.random() < 0.94 else ""
        return folder + self.stem() + ending

    def mode(self) -> str:
        """Return permissions."""
        return self.named("mode", 0.5) or self.keep(lambda dice: "".join(dice.choice("01234567") for _ in range(3)))

    def host(self) -> str:
        """Return the name or the number of a machine."""
        if self.dice.random() < 0.25:
            return ".".join(self.number(1, 254) for _ in range(4))
        first = self.word() + (self.dice.choice((".", "-")) + self.word() if self.dice.random() < 0.3 else "")
        return first + ("." + self.dice.choice(DOMAINS) if self.dice.random() < 0.7 else "")

    def url(self) -> str:
        """Return the address of something to download."""
        return (
            f"{self.dice.choice(('https', 'https', 'http'))}://{self.word()}.{self.dice.choice(DOMAINS)}/{self.file()}"
        )

    def repository(self) -> str:
        """Return the address of a git repository."""
        host, user, name = f"{self.word()}.{self.dice.choice(DOMAINS)}", self.word(), self.cased()
        if self.dice.random() < 0.3:
            return f"git@{host}:{user}/{name}.git"
        return f"https://{host}/{user + '/' if self.dice.random() < 0.7 else ''}{name}{self.dice.choice(('.git', ''))}"

    def branch(self) -> str:
        """Return the name of a branch or tag."""
        way = self.dice.random()
        if way < 0.2:
            return f"v{self.number(0, 40)}.{self.number(0, 40)}"
        return self.named("branch", 0.1) or self.word() + (self.dice.choice("-/_") + self.word() if way < 0.6 else "")

    def message(self) -> str:
        """Return a line of words."""
        words = [self.word() for _ in range(self.dice.randint(1, 4))]
        for at in range(len(words) - 1, 0, -1):
            if self.dice.random() < 0.2:
                words.insert(at, self.dice.choice(("the", "for", "in", "to", "and", "of")))
        return " ".join(words).capitalize() if self.dice.random() < 0.2 else " ".join(words)

    def variable(self) -> str:
        """Return the name of a variable."""
        return self.named("var", 0.4) or self.word().upper() + (
            "_" + self.word().upper() if self.dice.random() < 0.3 else ""
        )

    def program(self, key: str = "name") -> str:
        """Return the name of a program, a model, a user."""
        return self.named(key, 0.35) or self.word() + (f"-{self.word()}" if self.dice.random() < 0.2 else "")


def _port(make: Maker) -> str:
    if make.dice.random() < 0.4:
        return make.keep(lambda dice: str(dice.choice(PORTS)))
    return make.number(1024, 65535)


MAKERS: Final[dict[str, Callable[[Maker], str]]] = {
    "any": lambda make: make.cased() if make.dice.random() < 0.3 else make.word(),
    "bare": lambda make: make.stem() + make.ending(),
    "branch": Maker.branch,
    "col": lambda make: make.number(1, 60 if make.test else 20),
    "csv": lambda make: make.file(".csv"),
    "days": lambda make: make.number(1, 400),
    "dir": Maker.path,
    "ext": Maker.extension,
    "file": Maker.file,
    "file2": Maker.file,
    "giturl": Maker.repository,
    "gz": lambda make: make.file() + ".gz",
    "host": Maker.host,
    "mode": Maker.mode,
    "msg": Maker.message,
    "n": lambda make: make.number(1, 999),
    "name": Maker.program,
    "newdir": Maker.path,
    "newfile": Maker.file,
    "pid": lambda make: make.number(2, 99999),
    "port": _port,
    "size": lambda make: make.number(1, 999) + make.dice.choice("kMMG"),
    "tgz": lambda make: make.file(make.dice.choice((".tar.gz", ".tar.gz", ".tgz"))),
    "url": Maker.url,
    "user": lambda make: make.program("user"),
    "var": Maker.variable,
    "word": Maker.cased,
    "word2": Maker.cased,
    "zip": lambda make: make.file(".zip"),
}
KEYS: Final = {"column": "col", "kind": "ext", "nth": "n"}
"""Slots that say another slot's argument in words of their own."""
