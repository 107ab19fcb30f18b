"""The queue of requests that wait: bounded, and clients take turns in it. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar


class Request(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def client(self) -> str: ...


R = TypeVar("R", bound=Request)


class FairQueue(Generic[R]):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._clients: OrderedDict[str, deque[R]] = OrderedDict()  # in the order in which they are served

    def __len__(self) -> int:
        return sum(map(len, self._clients.values()))

    def put(self, request: R) -> bool:
        """False when the queue is full, or this client has two thirds of it: there is always room for another."""
        mine = len(self._clients.get(request.client, ()))
        if len(self) >= self.limit or mine * 3 >= self.limit * 2:
            return False
        self._clients.setdefault(request.client, deque()).append(request)
        return True

    def first(self) -> R | None:
        """Whose turn it is."""
        return next(iter(self._clients.values()))[0] if self._clients else None

    def take(self) -> R:
        """Takes the first out; its client's next request then stands at the end of the line."""
        client, requests = self._clients.popitem(last=False)
        request = requests.popleft()
        if requests:
            self._clients[client] = requests
        return request

    def remove(self, request: int) -> R | None:
        """Takes a request out wherever it stands; None when it is not here."""
        for client, requests in self._clients.items():
            found = next((r for r in requests if r.id == request), None)
            if found is not None:
                requests.remove(found)
                if not requests:
                    del self._clients[client]
                return found
        return None
