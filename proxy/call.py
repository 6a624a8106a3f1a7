"""The first hop: a request on a cacheable route, read once into a value."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.auth import Caller
from proxy.category import Told, told
from proxy.errors import ApiError
from proxy.headers import NO_WISHES, CacheControl, parse_cache_control, parse_tags, parse_threshold
from proxy.identity import (
    ANSWER_HEADERS,
    Group,
    InvalidJson,
    asker_of,
    counted,
    entry_id,
    flight_key,
    ground_of,
    model_group,
    parse_body,
    partition_key,
    shared_ground_of,
    user_of,
)
from proxy.rules import InForce, Rules
from proxy.wire.base import Json, Question, Wire
from proxy.wire.echo import own
from store.entry import EntryId, Held, PartitionKey
from store.match import Traits
from store.policy import DEFAULT_CATEGORY, Policy, PolicyBook, Scope, stricter

_REMEMBERED = 2048  # bodies
_REMEMBERED_BYTES = 4096  # of the longest
_MOST_DECIDED = 16  # callers whose category and keys are remembered with a body
HeaderList = list[tuple[bytes, bytes]]


@dataclass(slots=True, kw_only=True)
class Request:
    """What arrived, before anything is read into it."""

    raw: bytes
    header_list: HeaderList  # names in lower case
    headers: Mapping[bytes, bytes]  # the same; repeated ones joined by a comma
    query_string: bytes
    request_id: str

    def values(self, name: bytes) -> list[bytes]:
        """Return a header's values, one for each time it was sent."""
        if name not in self.headers:
            return []
        return [value for each, value in self.header_list if each == name]


@dataclass(slots=True, kw_only=True)
class Call:
    """A request on a cacheable route, with everything that the later hops decide from.

    Until `place` has been called the category is `default` for want of a better one, and
    nothing may be looked up or stored under it.
    """

    request: Request
    wire: Wire
    body: dict[str, Json]
    question: Question
    counted: bytes
    caller: Caller
    directives: CacheControl
    asked_threshold: float  # may only raise the policy's; -1 when the caller asked for none
    tags: tuple[str, ...]
    model: str
    model_group: Group
    stream: bool
    rules: Rules
    group_of: Callable[[str], str]  # a model's upstream group
    ground: bytes
    id: EntryId
    policy: Policy
    user: str = ""  # digest of the end user, in scope user only; "" when the request names none
    classifier: str = ""  # digest of what chose the category by its vector; "": a rule chose it
    chosen: str = ""  # the category that a header or rule names, until `place` has been called
    placed: bool = False
    _partition: PartitionKey | None = None  # once it was asked for

    @property
    def category(self) -> str:
        """The category's name: the one that was asked for, while it is not known."""
        return self.policy.name if self.placed else self.chosen or self.policy.name

    @property
    def group(self) -> str:
        """The upstream group that answers this model."""
        return self.group_of(self.model)

    def place(self, category: str, classifier: str = "") -> None:
        """Put the call in a category: its policy holds from now on, and its scope says whose it is.

        `classifier` is the digest of the prototypes that chose the category by its vector.
        Raises InvalidRequest for a user's name that is too long.
        """
        before, self.policy = self.policy.scope, self.policy_of(category)
        if self.policy.scope is not before or self.policy.scope is Scope.USER:
            self._partition = None  # it depends on whose the answers are
        self.classifier = classifier
        self.placed = True
        if self.policy.scope is Scope.USER:
            headers, route = self.request.headers, self.wire.path
            self.user = user_of(self.caller, self.body, headers, route=route)
            self.ground = self._ground(ground_of, tenant=self.caller.tenant, user=self.user)
            self.id = entry_id(self.ground, self.counted)

    def policy_of(self, category: str) -> Policy:
        """Return a category's policy as load has it now for this call's model."""
        return self.rules.policy(category, self.group if self.rules.bent else "")

    def policy_over(self, held: Held) -> Policy | None:
        """Return the policy that an entry is judged under for this call; None: it may not serve.

        That is the stricter of both categories'. None when the entry's category is gone, and
        with it the right to serve it, or when the two disagree about whose the answers are.
        """
        if held.category == self.policy.name:
            return self.policy
        if held.category not in self.rules.book:
            return None
        other = self.policy_of(held.category)
        return stricter(self.policy, other) if other.scope is self.policy.scope else None

    @property
    def asker(self) -> str:
        """A digest of who asks, in every scope: the named end user, else the key, else the tenant.

        Read when an answer is stored, not by a hit. In scope user it is `user`, where there is one.
        """
        return self.user or asker_of(
            self.caller, self.body, self.request.headers, route=self.wire.path
        )

    @property
    def shared_key(self) -> str:
        """The exact key without the tenant, in scope shared; "" in any other."""
        if self.policy.scope is not Scope.SHARED:
            return ""
        return entry_id(self._ground(shared_ground_of), self.counted)

    @property
    def flight_key(self) -> str:
        """The key of a shared upstream call: the exact key, and what else its answer depends on.

        That are the transport fields that the answer tells again, or that it may be refused for.
        """
        return flight_key(self.id, own(self.body, (*self.wire.echoes, "service_tier")))

    @property
    def partition(self) -> PartitionKey:
        """Which stored vectors may be compared with this question at all."""
        if self._partition is None:
            shared = self.policy.scope is Scope.SHARED
            ground = self._ground(shared_ground_of) if shared else self.ground
            self._partition = partition_key(ground, self.question)
        return self._partition

    def _ground(self, of: Callable[..., bytes], **whose: str) -> bytes:
        return of(
            route=self.wire.path,
            query_string=self.request.query_string,
            model=self.model_group,
            headers=self.request.headers,
            **whose,
        )


Decision = tuple[str | None, bool]  # a category, and whether nothing can overrule it


@dataclass(slots=True)
class Content:
    """What a body says, whoever sent it. Shared between requests: nobody changes what it says."""

    body: dict[str, Json]
    question: Question
    counted: bytes  # the part of the exact key that the body gives
    searched: bytes  # by match rules
    # What was decided about this body under `book`, by whatever else it was decided from.
    book: PolicyBook | None = None
    decided: dict[tuple[object, ...], Decision] = field(default_factory=dict)
    # Grounds and exact keys, by all that a ground is made of besides the route.
    keyed: dict[tuple[object, ...], tuple[bytes, EntryId]] = field(default_factory=dict)


class Contents:
    """Bodies as read, the most recent ones remembered: an exact repeat is read once."""

    def __init__(self) -> None:
        self._recent: OrderedDict[tuple[str, bytes], Content] = OrderedDict()

    def read(self, wire: Wire, raw: bytes) -> Content:
        """Return what a body says; raise InvalidJson or InvalidRequest."""
        key = (wire.path, raw)
        known = self._recent.get(key)
        if known is not None:
            self._recent.move_to_end(key)
            return known
        body = parse_body(raw)
        question, key_part = wire.read(body), counted(body)
        content = Content(body, question, key_part, _searched(question, key_part))
        if len(raw) <= _REMEMBERED_BYTES:
            self._recent[key] = content
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return content


class CallReader:
    """Reads requests under the policies in force and the configured model groups."""

    def __init__(
        self,
        in_force: InForce,
        model_groups: Mapping[str, tuple[str, ...]],
        group_of: Callable[[str], str],
    ) -> None:
        """`group_of` names the upstream group of a model; "" for one that nobody serves."""
        self._in_force = in_force
        self._model_groups = model_groups
        self._group_of = group_of
        self._contents = Contents()

    def read(self, wire: Wire, request: Request, caller: Caller) -> Call:
        """Return the call; raise ApiError, InvalidJson or InvalidRequest for a 4xx."""
        headers = request.headers
        if not headers.get(b"content-type", b"application/json").lower().startswith(_JSON_TYPES):
            raise ApiError(415, "the body must be JSON: send Content-Type: application/json")
        try:
            content = self._contents.read(wire, request.raw)
        except InvalidJson:
            if headers.get(b"content-encoding", b"identity").lower() == b"identity":
                raise
            raise ApiError(415, "the body must be plain JSON: send no Content-Encoding") from None
        body, rules = content.body, self._in_force.rules
        tags, threshold, directives = _wishes(request)
        if b"x-nearhit-user" in headers:  # refused from keys that may not, in any category
            user_of(caller, body, headers, route=wire.path)
        model = body["model"]
        group = model_group(model, self._model_groups) if self._model_groups else model
        ground, id = _keyed(content, wire, request, caller, group)
        call = Call(
            request=request,
            wire=wire,
            body=body,
            question=content.question,
            counted=content.counted,
            caller=caller,
            directives=directives,
            asked_threshold=-1.0 if threshold is None else threshold,
            tags=tags,
            model=model,
            model_group=group,
            stream=wire.streams and body.get("stream") is True,
            rules=rules,
            group_of=self._group_of,
            ground=ground,
            id=id,
            policy=rules.book[DEFAULT_CATEGORY],
        )
        category, final = _decided(call, content)
        if category is not None and final:
            call.place(category)
        elif category is not None:
            call.chosen = category  # unless what it means is in a category of mode off
        return call


def _keyed(
    content: Content, wire: Wire, request: Request, caller: Caller, group: Group
) -> tuple[bytes, EntryId]:
    """Return the ground and the exact key; of an exact repeat, as before."""
    said = tuple(map(request.headers.get, ANSWER_HEADERS))
    key = (caller.tenant, request.query_string, group, said)
    known = content.keyed.get(key)
    if known is None:
        ground = ground_of(
            tenant=caller.tenant,
            route=wire.path,
            query_string=request.query_string,
            model=group,
            headers=request.headers,
        )
        known = ground, entry_id(ground, content.counted)
        if len(content.keyed) < _MOST_DECIDED:
            content.keyed[key] = known
    return known


def _decided(call: Call, content: Content) -> Decision:
    """Return the category as far as rules and header tell it; of an exact repeat, as before."""
    book, caller = call.rules.book, call.caller
    asked = call.request.headers.get(b"x-nearhit-category")
    if book.reads_headers:
        return _decide(call, content, asked)
    if content.book is not book:
        content.book, content.decided = book, {}
    key = (caller.tenant, call.model, asked, caller.categories)
    known = content.decided.get(key)
    if known is None:
        known = _decide(call, content, asked)
        if len(content.decided) < _MOST_DECIDED:
            content.decided[key] = known
    return known


def _decide(call: Call, content: Content, asked: bytes | None) -> Decision:
    book = call.rules.book
    category, by = told(book, lambda: _traits(call, content), asked, call.caller.categories)
    if not content.question.text:
        return category or DEFAULT_CATEGORY, True
    if category is None:
        return None, False  # its vector has to tell
    return category, by is Told.FIRST_RULE or not book.forbids_by_meaning


def told_by(call: Call) -> Told:
    """Return what tells a call's category, as `CallReader.read` came to it. For people to read."""
    asked = call.request.headers.get(b"x-nearhit-category")
    searched = _searched(call.question, call.counted)
    content = Content(call.body, call.question, call.counted, searched)
    by = told(call.rules.book, lambda: _traits(call, content), asked, call.caller.categories)[1]
    return Told.NOTHING if by is Told.EXAMPLES and not call.question.text else by


def _searched(question: Question, key_part: bytes) -> bytes:
    # A text may hold lone surrogates, which have no UTF-8.
    return question.text.encode("utf-8", "replace") or key_part


def _traits(call: Call, content: Content) -> Traits:
    """Return what match rules look at; a request without a question shows its whole body."""
    return Traits(
        model=call.model,
        tenant=call.caller.tenant,
        path=call.wire.path,
        headers=call.request.headers,
        text=content.searched,
        said=tuple(text.encode("utf-8", "replace") for text in content.question.said),
    )


def _wishes(request: Request) -> tuple[tuple[str, ...], float | None, CacheControl]:
    """Return the caller's tags, threshold and directives; raise ApiError 400."""
    if not _WISHES & request.headers.keys():
        return (), None, NO_WISHES
    try:
        return (
            parse_tags(request.values(b"x-nearhit-tags")),
            parse_threshold(request.values(b"x-nearhit-threshold")),
            parse_cache_control(request.values(b"cache-control")),
        )
    except ValueError as error:
        raise ApiError(400, str(error)) from None


_WISHES = {b"x-nearhit-tags", b"x-nearhit-threshold", b"cache-control"}
_JSON_TYPES = (b"application/json", b"text/json")
