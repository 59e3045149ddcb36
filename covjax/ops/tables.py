"""Views of the tables of operators, which plug-ins make longer while a program runs."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class View(Mapping[str, T]):
    """{name: what a function says of it} for all names of a table, computed when it is asked."""

    def __init__(self, table: Mapping[str, object], say: Callable[[str], T]):
        self._table = table
        self._say = say

    def __getitem__(self, name: str) -> T:
        if name not in self._table:
            raise KeyError(name)
        return self._say(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return repr(dict(self))
