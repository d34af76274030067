"""Files that a configuration is in or names: read within bounds, and refused in plain words."""

from pathlib import Path

from gateway.config.problems import shown

__all__ = ["UnreadableFile", "check_readable", "path_of", "read_bounded"]


class UnreadableFile(ValueError):
    """A file that can't be had."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{reason}: {shown(str(path))}")
        self.reason = reason


def path_of(value: object) -> Path:
    """The file that a configuration's value names.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(value, str):
        raise ValueError(f"expected a file's name, found {shown(value)}")  # noqa: TRY004 - pydantic wants ValueError
    return Path(value)


def read_bounded(path: Path, maximum_bytes: int) -> bytes:
    """All of a file.

    Raises:
        UnreadableFile: it can't be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(maximum_bytes + 1)
    except (OSError, ValueError) as error:
        raise UnreadableFile(path, _reason(error)) from None
    if len(content) > maximum_bytes:
        raise UnreadableFile(path, f"expected a file of at most {maximum_bytes} bytes, found a larger one")
    return content


def check_readable(path: Path) -> Path:
    """The path itself, if there is a file that may be read.

    Raises:
        UnreadableFile: there is none.
    """
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise UnreadableFile(path, _reason(error)) from None
    return path


def _reason(error: OSError | ValueError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "expected a file, found none"
        case IsADirectoryError():
            return "expected a file, found a directory"
        case PermissionError():
            return "expected a file that this user may read"
        case OSError():
            return f"expected a file that can be read ({error.strerror})"
        case _:  # a NUL, or half a surrogate pair
            return "expected a file's name"
