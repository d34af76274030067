"""`transform` of a route: a JMESPath expression (jmespath.org), evaluated within bounds.

The expression is the configuration's, the data a device's: neither may make the gateway wait. An expression has a
length and a depth, an evaluation a number of steps, and what comes out a number of values.
"""

from dataclasses import dataclass
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from gateway.core.codec import PayloadError, Transform

__all__ = ["MAXIMUM_CHARACTERS", "UnfitExpression", "compile_transform"]

MAXIMUM_CHARACTERS: Final = 2000
MAXIMUM_DEPTH: Final = 64
"""Of an expression, and of what it makes."""
MAXIMUM_STEPS: Final = 50_000
"""Of one evaluation: parts of the expression evaluated, and items and runs of characters that come out of them."""
MAXIMUM_VALUES: Final = 50_000
"""Of what it makes: by sharing, little data may say much."""
CHARACTERS_PER_STEP: Final = 64
MAXIMUM_TEXT: Final = 1024 * 1024
"""Characters in all of that."""


class UnfitExpression(ValueError):
    """An expression that can't be used; the text says what was expected."""


def compile_transform(text: str) -> Transform:
    """What makes other data of data.

    Raises:
        UnfitExpression: it is none, or too long or too deep.
    """
    if len(text) > MAXIMUM_CHARACTERS:
        raise UnfitExpression(f"expected at most {MAXIMUM_CHARACTERS} characters, found {len(text)}")
    try:
        parsed = jmespath.compile(text).parsed
    except JMESPathError as error:
        raise UnfitExpression(f"expected a JMESPath expression: {str(error).splitlines()[0]}") from None
    except (RecursionError, ValueError) as error:  # a number that is no number, a literal that is no JSON
        raise UnfitExpression(f"expected a JMESPath expression: {error}") from None
    _check_depth(parsed)
    return _Expression(text, parsed)


def _check_depth(parsed: Any) -> None:
    level = [parsed]
    for _ in range(MAXIMUM_DEPTH):
        level = [child for node in level for child in node["children"] if isinstance(child, dict) and "type" in child]
        if not level:
            return
    raise UnfitExpression(f"expected at most {MAXIMUM_DEPTH} levels of expressions within expressions")


@dataclass(frozen=True, slots=True)
class _Expression:
    text: str
    parsed: Any

    def __call__(self, data: Any) -> Any:
        try:
            made = _Bounded().visit(self.parsed, data)
        except JMESPathError as error:
            raise PayloadError(f"transform: {str(error).splitlines()[0]}") from None
        except PayloadError:
            raise
        except Exception as error:  # functions of the library meet data that they don't expect
            raise PayloadError(f"transform: {type(error).__name__}: {error}") from None
        _check_size(made)
        return made

    def __hash__(self) -> int:
        return hash(self.text)


class _Bounded(TreeInterpreter):
    """An evaluation that ends."""

    def __init__(self) -> None:
        super().__init__()
        self._left = MAXIMUM_STEPS

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a part of the expression."""
        found = super().visit(node, *args, **kwargs)
        self._left -= 1
        if isinstance(found, (list, dict)):
            self._left -= len(found)
        elif isinstance(found, str):
            self._left -= len(found) // CHARACTERS_PER_STEP
        if self._left < 0:
            raise PayloadError(f"transform: expected at most {MAXIMUM_STEPS} steps for one payload")
        return found


def _check_size(made: Any) -> None:
    level, values, text = [made], 0, 0
    for _ in range(MAXIMUM_DEPTH):
        values += len(level)
        text += sum(len(each) for each in level if isinstance(each, str))
        if values > MAXIMUM_VALUES or text > MAXIMUM_TEXT:
            raise PayloadError("transform: expected less to come of one payload")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, (list, dict)):
                if len(each) + len(inner) > MAXIMUM_VALUES:
                    raise PayloadError("transform: expected less to come of one payload")
                inner += each.values() if isinstance(each, dict) else each
                text += sum(map(len, each)) if isinstance(each, dict) else 0
        level = inner
        if not level:
            return
    raise PayloadError(f"transform: expected at most {MAXIMUM_DEPTH} levels to come of it")
