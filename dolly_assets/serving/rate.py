"""How often one client may ask: a bucket of tokens per address, as proxies limit rates.

https://en.wikipedia.org/wiki/Token_bucket
"""

import math
import time
from http import HTTPStatus

from dolly_assets.serving.errors import ApiError

_MOST_ADDRESSES = 10_000  # that are remembered


class Rate:
    """Refuses requests of an address that asks too often.

    A client that has not asked for a minute may send a minute's requests at once.

    Args:
        per_minute: Requests of an address in a minute; 0 for any number.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, address: str) -> None:
        """Count a request.

        Raises:
            ApiError: The address has asked too often; it states when it may ask again.
        """
        if not self._per_minute:
            return
        now, per_second = time.monotonic(), self._per_minute / 60
        left, at = self._left.pop(address, (self._per_minute, now))
        left = min(self._per_minute, left + (now - at) * per_second)
        is_refused = left < 1
        if len(self._left) >= _MOST_ADDRESSES:
            del self._left[next(iter(self._left))]  # that of the longest silence
        self._left[address] = left if is_refused else left - 1, now
        if is_refused:
            raise ApiError(
                f"more than {self._per_minute} requests in a minute: ask again later",
                HTTPStatus.TOO_MANY_REQUESTS,
                code="rate_limit_exceeded",
                retry_seconds=math.ceil((1 - left) / per_second),
            )
