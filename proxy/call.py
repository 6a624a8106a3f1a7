"""The first hop: a request on a cacheable route, read once into a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.auth import Caller, Keyring
from proxy.errors import ApiError
from proxy.headers import CacheControl, parse_cache_control, parse_tags, parse_threshold
from proxy.identity import entry_id, ground_of, model_group, parse_body
from proxy.wire.base import Json, Question, Wire
from store.entry import EntryId
from store.policy import DEFAULT_CATEGORY, Policy, PolicyBook

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

    def read(self, wire: Wire, request: Request, caller: Caller) -> Call:
        """Return the call; raise ApiError, InvalidJson or InvalidRequest for a 4xx."""
        headers = request.headers
        if not headers.get(b"content-type", b"application/json").lower().startswith(_JSON_TYPES):
            raise ApiError(415, "the body must be JSON: send Content-Type: application/json")
        body = parse_body(request.raw)
        question = wire.read(body)
        category = self._category(headers.get(b"x-nearhit-category"), caller)
        policy = self._policies[category]
        try:
            tags = parse_tags(request.values(b"x-nearhit-tags"))
            threshold = parse_threshold(request.values(b"x-nearhit-threshold"))
        except ValueError as error:
            raise ApiError(400, str(error)) from None
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
            question=question,
            caller=caller,
            category=category,
            policy=policy,
            directives=parse_cache_control(request.values(b"cache-control")),
            asked_threshold=-1.0 if threshold is None else threshold,
            tags=tags,
            model=model,
            stream=body.get("stream") is True,
            ground=ground,
            id=entry_id(ground, body),
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


_JSON_TYPES = (b"application/json", b"text/json")
