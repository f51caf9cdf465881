"""Explores every order in which the requests of several writers of one block can happen. Breadth first, no randomness.

The clients are the program's own `commit`, run again and again with the answers that it got so far: what it asks next
is its move. So a state is the object, the answers of each client, requests still under way, and faults that are left:

    crash      a client stops for good, before any of its requests
    lost       a request is done, its answer is lost
    failed     a request is not done, and the client cannot know
    delayed    the client is told that nothing answered, and the request arrives at any later time, even after its end
    refused    a condition that holds is refused (S3's 409)
    damage     the object is changed behind everybody's back        vanish     ... is removed

Two versions of an object with the same bytes are the same version, as with an S3 ETag.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from deit_pipe.store.errors import StoreUnreachable
from deit_pipe.store.places.location import ObjectExists, Seen

FAULTS = ("crash", "lost", "failed", "delayed", "refused", "damage", "vanish")
BAD = b"damaged"
UNREACHABLE = "unreachable"

Client = Callable[[Any], str]  # is given a place; returns the token of the block that it takes for committed
Answers = tuple[Any, ...]


class Asked(BaseException):
    """What a client asks when its answers are used up."""

    def __init__(self, *request: Any) -> None:
        self.request = request


class Remembered:
    """A place that gives the answers of before, then stops the client."""

    path = "memory"

    def __init__(self, answers: Answers) -> None:
        self._answers = list(answers)

    def _ask(self, *request: Any) -> Any:
        if not self._answers:
            raise Asked(*request)
        answer = self._answers.pop(0)
        if answer == UNREACHABLE:
            raise StoreUnreachable("no answer")
        return answer

    def see(self, _: str) -> Seen | None:
        data = self._ask("see")
        return None if data is None else Seen(data, None)

    def create(self, _: str, data: bytes) -> None:
        if self._ask("create", data) == "exists":
            raise ObjectExists("exists")

    def swap(self, _: str, seen: Seen, data: bytes) -> bool:
        return bool(self._ask("swap", seen.data, data))

    def put(self, _: str, data: bytes) -> None:
        self._ask("put", data)

    def delete(self, _: str) -> None:
        self._ask("delete")


class State(NamedTuple):
    value: bytes | None
    clients: tuple[tuple[bool, Answers], ...]  # whether it lives, what it was told
    network: tuple[tuple[Any, ...], ...]
    left: tuple[int, ...]
    ever: frozenset[str]
    """Tokens that were committed."""


class Violation(Exception):
    """An invariant does not hold."""


class Explorer:
    """All that `clients` can do to one object; `token_of` reads the token of a sound block, None of anything else."""

    def __init__(
        self,
        clients: list[Client],
        token_of: Callable[[bytes | None], str | None],
        initial: bytes | None = None,
        **faults: int,
    ) -> None:
        self._clients, self._token_of = clients, token_of
        self._moves: dict[tuple[int, Answers], tuple[Any, ...]] = {}
        left = tuple(faults.get(name, 0) for name in FAULTS)
        ever = frozenset({token} if (token := token_of(initial)) else ())
        self.start = State(initial, tuple((True, ()) for _ in clients), (), left, ever)

    def move(self, number: int, answers: Answers) -> tuple[Any, ...]:
        """What a client does after these answers: a request, or ("end", token or error)."""
        key = (number, answers)
        if key not in self._moves:
            try:
                self._moves[key] = ("end", self._clients[number](Remembered(answers)))
            except Asked as asked:
                self._moves[key] = asked.request
            except StoreUnreachable:
                self._moves[key] = ("end", UNREACHABLE)
        return self._moves[key]

    def after(self, state: State, value: bytes | None, fault: str | None = None, **changed: Any) -> State:
        """The next state; a sound block may only be changed by damage.

        Raises:
            Violation: it was changed by a request.
        """
        before, now = self._token_of(state.value), self._token_of(value)
        if before is not None and value != state.value and fault not in ("damage", "vanish"):
            raise Violation("a committed block was replaced or withdrawn")
        left = tuple(count - (name == fault) for name, count in zip(FAULTS, state.left, strict=True))
        ever = state.ever | ({now} if now else set())
        return state._replace(value=value, left=left, ever=frozenset(ever), **changed)

    def steps(self, state: State) -> Iterator[State]:
        """Every next state."""
        left = dict(zip(FAULTS, state.left, strict=True))

        def told(number: int, answer: Any, lives: bool = True) -> tuple[tuple[bool, Answers], ...]:
            clients = list(state.clients)
            answers = clients[number][1] if not lives else (*clients[number][1], answer)
            clients[number] = (lives, answers)
            return tuple(clients)

        for number, (lives, answers) in enumerate(state.clients):
            request = self.move(number, answers)
            if not lives or request[0] == "end":
                continue
            value, answer = done(state.value, request)
            yield self.after(state, value, clients=told(number, answer))
            if left["crash"]:
                yield self.after(state, state.value, "crash", clients=told(number, None, lives=False))
            if request[0] == "see":
                continue
            unknown = told(number, UNREACHABLE)
            if left["lost"] and value != state.value:
                yield self.after(state, value, "lost", clients=unknown)
            if left["failed"]:
                yield self.after(state, state.value, "failed", clients=unknown)
            if left["delayed"]:
                yield self.after(state, state.value, "delayed", clients=unknown, network=(*state.network, request))
            if left["refused"] and request[0] in ("create", "swap"):
                no = "exists" if request[0] == "create" else False
                yield self.after(state, state.value, "refused", clients=told(number, no))
        for number, request in enumerate(state.network):
            others = state.network[:number] + state.network[number + 1 :]
            yield self.after(state, done(state.value, request)[0], network=others)
        if self._token_of(state.value) is not None:
            if left["damage"]:
                yield self.after(state, BAD + bytes([left["damage"]]), "damage")
            if left["vanish"]:
                yield self.after(state, None, "vanish")

    def check_end(self, state: State) -> None:
        """Nobody can move: every survivor was told the truth, and the block is there unless it was damaged since."""
        ends = [self.move(number, answers)[1] for number, (lives, answers) in enumerate(state.clients) if lives]
        for end in ends:
            if end != UNREACHABLE and end not in state.ever:
                raise Violation("a client takes for committed what never was")
        spoilt = self.start.left[5:] != state.left[5:]
        if any(end != UNREACHABLE for end in ends) and self._token_of(state.value) is None and not spoilt:
            raise Violation("a client ended, and the block is not there")

    def explore(self, most: int = 10**9) -> tuple[str | None, int]:
        """The first violation (None: there is none), and how many states were seen."""
        seen = {self.start}
        queue = deque(seen)
        while queue and len(seen) < most:
            state = queue.popleft()
            try:
                following = list(self.steps(state))
                if not following:
                    self.check_end(state)
            except Violation as violation:
                return str(violation), len(seen)
            for one in following:
                if one not in seen:
                    seen.add(one)
                    queue.append(one)
        return None, len(seen)


def done(value: bytes | None, request: tuple[Any, ...]) -> tuple[bytes | None, Any]:
    """What a request makes of the object, and its answer."""
    kind = request[0]
    if kind == "see":
        return value, value
    if kind == "create":
        return (request[1], "ok") if value is None else (value, "exists")
    if kind == "swap":
        return (request[2], True) if value == request[1] else (value, False)
    return (request[1] if kind == "put" else None), "ok"
