"""Search for the smallest size for which a condition holds."""

import bisect
from collections.abc import Callable

Size = tuple[int, ...]


def smallest_size(fits: Callable[[Size], bool], rank: int, start: int, limit: int) -> Size | None:
    """Return the smallest size of `rank` axes that `fits`; `None` if none up to `limit` does.

    `fits` must be monotone on each axis, independently of the others.
    """
    large = start
    while not fits((large,) * rank):
        if large >= limit:
            return None
        large = min(2 * large, limit)

    def fits_on(axis: int) -> Callable[[int], bool]:
        return lambda n: fits(tuple(n if i == axis else large for i in range(rank)))

    sizes = range(1, large)
    return tuple(1 + bisect.bisect_left(sizes, True, key=fits_on(axis)) for axis in range(rank))
