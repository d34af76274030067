"""Ways out of the folder of the pages, to files that nobody is to read."""

from typing import Final

from tests.security.case import Case
from tests.security.cases_http import CLOSE, HOST

CATEGORY: Final = "files"


def _path(name: str, path: bytes, outcome: str = "404") -> Case:
    return Case(name, CATEGORY, ("HTTP path",), outcome, raw=b"GET " + path + b" HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")


CASES: Final = (
    _path("two dots", b"/../config.yaml"),
    _path("two dots, many times", b"/" + b"../" * 12 + b"etc/passwd"),
    _path("two dots within a folder", b"/vendor/../../pyproject.toml"),
    _path("two dots, encoded", b"/%2e%2e/%2e%2e/etc/passwd"),
    _path("two dots, encoded twice", b"/%252e%252e/etc/passwd"),
    _path("two dots and an encoded slash", b"/..%2f..%2f..%2f..%2fetc/passwd"),
    _path("two dots in overlong UTF-8", b"/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd"),
    _path("two dots and a backslash", b"/..\\..\\etc\\passwd"),
    _path("two dots and an encoded backslash", b"/..%5c..%5cetc%5cpasswd"),
    _path("two dots and a semicolon", b"/..;/..;/etc/passwd"),
    _path("four dots", b"/....//....//etc/passwd"),
    _path("an absolute path", b"//etc/passwd"),
    _path("an absolute path, encoded", b"/%2fetc/passwd"),
    _path("an absolute path behind a folder", b"/vendor//etc/passwd"),
    _path("a path of the system", b"/proc/self/environ"),
    _path("NUL behind a name", b"/index.html%00.js"),
    _path("NUL alone", b"/%00"),
    _path("a line break in a name", b"/a%0d%0aSet-Cookie:%20a=b"),
    _path("a name of 5,000 signs", b"/" + b"a" * 5000),
    _path("500 folders", b"/a" * 500),
    _path("a hidden file", b"/.git/config"),
    _path("a folder", b"/vendor"),
    _path("a folder with a slash", b"/vendor/"),
    _path("a file as a folder", b"/index.html/x"),
    _path("the gateway's own code", b"/__init__.py"),
    _path("an address that leads elsewhere", b"//evil.example/%2e%2e", "307"),
)
