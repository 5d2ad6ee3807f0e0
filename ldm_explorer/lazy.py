"""Values that are computed when they are first asked for."""

import functools
from typing import Self, TypeVar, overload

T = TypeVar("T")


class cached_property(functools.cached_property[T]):
    """`functools.cached_property` without the lock that it has before Python 3.12, one for all instances of a class.

    A network that runs under it gives way to other jobs (ldm_explorer/ui/server/turns.py): the next job to ask for the
    same property of another instance would wait for the lock, and the first one for its turn, for ever.
    """

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> Self | T:
        if instance is None:
            return self
        if self.attrname is None:
            raise TypeError("a cached_property has no name to keep its value under: define it in the body of a class")
        values = instance.__dict__
        if self.attrname not in values:
            values[self.attrname] = self.func(instance)
        return values[self.attrname]
