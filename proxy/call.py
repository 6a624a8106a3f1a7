"""The first hop: a request on a cacheable route, read once into a value."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.auth import Caller, Keyring
from proxy.errors import ApiError
from proxy.headers import NO_WISHES, CacheControl, parse_cache_control, parse_tags, parse_threshold
from proxy.identity import counted, entry_id, ground_of, model_group, parse_body
from proxy.wire.base import Json, Question, Wire
from store.entry import EntryId
from store.policy import DEFAULT_CATEGORY, Policy, PolicyBook

_REMEMBERED = 2048  # bodies
_REMEMBERED_BYTES = 4096  # of the longest
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
    """A request on a cacheable route, with everything that the later hops decide from."""

    request: Request
    wire: Wire
    body: dict[str, Json]
    question: Question
    caller: Caller
    category: str
    policy: Policy
    directives: CacheControl
    asked_threshold: float  # may only raise the policy's; -1 when the caller asked for none
    tags: tuple[str, ...]
    model: str
    stream: bool
    ground: bytes
    id: EntryId


@dataclass(frozen=True, slots=True)
class Content:
    """What a body says, whoever sent it. Shared between requests: nobody changes it."""

    body: dict[str, Json]
    question: Question
    counted: bytes  # the part of the exact key that the body gives


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
        content = Content(body, wire.read(body), counted(body))
        if len(raw) <= _REMEMBERED_BYTES:
            self._recent[key] = content
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        return content


class CallReader:
    """Reads requests under the configured keys, policies and model groups."""

    def __init__(
        self,
        keyring: Keyring,
        policies: PolicyBook,
        model_groups: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._keyring = keyring
        self._policies = policies
        self._model_groups = model_groups
        self._contents = Contents()

    def read(self, wire: Wire, request: Request, caller: Caller) -> Call:
        """Return the call; raise ApiError, InvalidJson or InvalidRequest for a 4xx."""
        headers = request.headers
        if not headers.get(b"content-type", b"application/json").lower().startswith(_JSON_TYPES):
            raise ApiError(415, "the body must be JSON: send Content-Type: application/json")
        content = self._contents.read(wire, request.raw)
        body = content.body
        category = self._category(headers.get(b"x-nearhit-category"), caller)
        policy = self._policies[category]
        tags, threshold, directives = _wishes(request)
        model = body["model"]
        ground = ground_of(
            tenant=caller.tenant,
            route=wire.path,
            query_string=request.query_string,
            model=model_group(model, self._model_groups) if self._model_groups else model,
            headers=headers,
        )
        return Call(
            request=request,
            wire=wire,
            body=body,
            question=content.question,
            caller=caller,
            category=category,
            policy=policy,
            directives=directives,
            asked_threshold=-1.0 if threshold is None else threshold,
            tags=tags,
            model=model,
            stream=wire.streams and body.get("stream") is True,
            ground=ground,
            id=entry_id(ground, content.counted),
        )

    def _category(self, asked: bytes | None, caller: Caller) -> str:
        if asked is None:
            return DEFAULT_CATEGORY
        name = asked.decode("latin-1").strip()
        if name not in self._policies:
            known = ", ".join(self._policies.names)
            raise ApiError(
                400,
                f"X-Nearhit-Category: {name!r} is unknown; known: {known}",
                code="unknown_category",
            )
        if caller.categories is not None and name not in caller.categories | {DEFAULT_CATEGORY}:
            may = ", ".join(sorted(caller.categories | {DEFAULT_CATEGORY}))
            raise ApiError(
                403,
                f"X-Nearhit-Category: this key may not choose {name!r}; it may choose: {may}",
                type="permission_error",
                code="category_not_allowed",
            )
        return name


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
