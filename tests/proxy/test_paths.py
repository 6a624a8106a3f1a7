from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.paths import PathRefused, _refuse_unsafe, normalise, passthrough_allowed


@pytest.mark.parametrize(
    ("path", "query", "forwarded"),
    [
        pytest.param(b"/v1/chat/completions", b"", "/v1/chat/completions", id="plain"),
        pytest.param(b"/", b"", "/", id="root"),
        pytest.param(b"/v1/models/", b"", "/v1/models/", id="trailing slash kept"),
        pytest.param(b"/v1/models", b"a=1&b=%2e%2e/", "/v1/models?a=1&b=%2e%2e/", id="query as is"),
        pytest.param(
            b"/v1/files", b"q=?/..//", "/v1/files?q=?/..//", id="dots in a query are text"
        ),
        pytest.param(b"/v1/models/gpt-4.1", b"", "/v1/models/gpt-4.1", id="a dot inside"),
        pytest.param(b"/v1/models/a..b", b"", "/v1/models/a..b", id="two dots inside"),
        pytest.param(b"/v1/...", b"", "/v1/...", id="three dots name a file"),
        pytest.param(b"/v1/models/org%2Fname", b"", "/v1/models/org%2Fname", id="escaped slash"),
        pytest.param(b"/v1/files/caf%C3%A9", b"", "/v1/files/caf%C3%A9", id="escaped UTF-8"),
        pytest.param(b"/v1/files/a%20b", b"", "/v1/files/a%20b", id="escaped space"),
        pytest.param(b"/v1/.well-known", b"", "/v1/.well-known", id="a leading dot"),
    ],
)
def test_a_good_path_is_forwarded_verbatim(path: bytes, query: bytes, forwarded: str) -> None:
    assert normalise(path, query) == forwarded


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param(b"", "begin with /", id="empty"),
        pytest.param(b"v1/models", "begin with /", id="no leading slash"),
        pytest.param(b"*", "begin with /", id="asterisk form"),
        pytest.param(b"http://other/v1/files", "begin with /", id="absolute form"),
        pytest.param(b"/v1/..", "segment", id="dots at the end"),
        pytest.param(b"/v1/../admin", "segment", id="dots inside"),
        pytest.param(b"/v1/./models", "segment", id="one dot"),
        pytest.param(b"/v1/..;/admin", "segment", id="dots with a parameter"),
        pytest.param(b"/v1/..;a=b/admin", "segment", id="dots with a named parameter"),
        pytest.param(b"/v1/%2e%2e/admin", "escape %2e", id="escaped dots"),
        pytest.param(b"/v1/%2E./admin", "escape %2E", id="half-escaped dots"),
        pytest.param(b"/v1/%252e%252e/admin", "escape %25", id="doubly escaped dots"),
        pytest.param(b"/v1/..%2fadmin", "segment", id="dots before an escaped slash"),
        pytest.param(b"/v1/x%2F..", "segment", id="dots after an escaped slash"),
        pytest.param(b"/v1//files", "empty segment", id="double slash"),
        pytest.param(b"//host/v1", "empty segment", id="leading double slash"),
        pytest.param(b"//", "empty segment", id="only slashes"),
        pytest.param(b"/v1/%2ffiles", "empty segment", id="slash and escaped slash"),
        pytest.param(b"/v1/files%2f", "empty segment", id="ends in an escaped slash"),
        pytest.param(b"/v1/files%2f/", "empty segment", id="escaped slash and slash"),
        pytest.param(b"/v1\\files", "\\", id="backslash"),
        pytest.param(b"/v1/..\\files", "\\", id="dots and backslash"),
        pytest.param(b"/v1/%5Cfiles", "escape %5C", id="escaped backslash"),
        pytest.param(b"/v1/files%00", "escape %00", id="escaped NUL"),
        pytest.param(b"/v1/files%0d%0aX:%20y", "escape %0d", id="escaped line end"),
        pytest.param(b"/v1/files%7f", "escape %7f", id="escaped DEL"),
        pytest.param(b"/v1/fi\x00les", "control", id="NUL"),
        pytest.param(b"/v1/fi\tles", "control", id="tab"),
        pytest.param(b"/v1/fi les", "control", id="space"),
        pytest.param("/v1/café".encode(), "non-ASCII", id="bare UTF-8"),
        pytest.param(b"/v1/files%", "begins no escape", id="percent at the end"),
        pytest.param(b"/v1/files%4", "begins no escape", id="half an escape"),
        pytest.param(b"/v1/%zz", "begins no escape", id="not hexadecimal"),
        pytest.param(b"/v1/files#x", "#", id="fragment"),
        pytest.param(b"/v1/files?x", "?", id="a query in the path"),
    ],
)
def test_a_bad_path_is_refused(path: bytes, reason: str) -> None:
    with pytest.raises(PathRefused) as refused:
        normalise(path)
    assert reason in str(refused.value)


@pytest.mark.parametrize("query", [b"a=\r\nX: y", b"a=\x00", b"a b", b"\xff", b"a#b"])
def test_a_bad_query_is_refused(query: bytes) -> None:
    with pytest.raises(PathRefused, match="query"):
        normalise(b"/v1/models", query)


paths = st.lists(
    st.sampled_from(
        [b"/", b".", b"..", b"v1", b"%2e", b"%2F", b"%5c", b"\\", b";", b"%", b"a", b"%41", b"\xe9"]
    ),
    max_size=8,
).map(b"".join)


@given(paths | st.binary(max_size=20))
def test_what_is_forwarded_stays_in_place_however_it_is_read(path: bytes) -> None:
    try:
        forwarded = normalise(path)
    except PathRefused:
        return
    assert forwarded.encode() == path
    _refuse_unsafe(path)  # the quick look accepts nothing that the full one refuses
    read = path
    for _ in range(3):  # as sent, decoded, and decoded again
        segments = read.replace(b"\\", b"/").split(b"/")
        assert segments[0] == b""
        assert not {b".", b".."} & {segment.partition(b";")[0] for segment in segments}
        assert b"" not in segments[1:-1]
        read = unquote_to_bytes(read)


ALLOWED = ("/v1/moderations", "/v1/audio/")


@pytest.mark.parametrize(
    ("path", "tenants", "own_key", "open_"),
    [
        pytest.param("/v1/files", 1, False, True, id="one tenant: all are open"),
        pytest.param("/v1/files", 0, False, True, id="no tenants configured: all are open"),
        pytest.param("/v1/files", 2, False, False, id="several tenants: stored objects are not"),
        pytest.param("/v1/files/file-1/content", 2, False, False, id="nor what is below them"),
        pytest.param("/v1/files", 2, True, True, id="a key of its own opens all"),
        pytest.param("/v1/moderations", 2, False, True, id="allowed by name"),
        pytest.param("/v1/moderations?x=1", 2, False, True, id="the query does not matter"),
        pytest.param("/v1/moderations/a", 2, False, True, id="below an allowed one"),
        pytest.param("/v1/moderationsx", 2, False, False, id="not a mere prefix"),
        pytest.param("/v1/files?/v1/moderations", 2, False, False, id="not by its query"),
        pytest.param("/v1/audio/speech", 2, False, True, id="entry with a trailing slash"),
        pytest.param("/v1/audiobooks", 2, False, False, id="trailing slash is no mere prefix"),
        pytest.param(
            "/v1/%6doderations", 2, False, False, id="an escaped spelling is another path"
        ),
    ],
)
def test_passthrough(path: str, tenants: int, own_key: bool, open_: bool) -> None:
    assert passthrough_allowed(path, tenants=tenants, own_key=own_key, allowed=ALLOWED) is open_
