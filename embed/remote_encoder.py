"""The remote encoder: any OpenAI-compatible /v1/embeddings (TEI, vLLM, OpenAI)."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import aiohttp
import numpy as np
import orjson

from embed.checkpoint import identify
from embed.encoder import Vector, Vectors
from embed.errors import EncoderFailed

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # 1,000 vectors of 4,096 numbers written out
MAX_ERROR_CHARS = 200  # of the service's own words in ours

logger = logging.getLogger(__name__)


class RemoteEncoder:
    """Encodes by asking an embedding service. Make one with `open`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        model: str,
        dimension: int,
        max_bytes: int,
    ) -> None:
        self._session = session
        self._url = url
        self._model = model
        self._max_bytes = max_bytes
        self.dimension = dimension
        self.max_tokens = max_bytes + 2  # every token covers a byte or more; begin and end marks
        # The service's weights cannot be seen: all that names them is its address and its name.
        self.checkpoint = identify("remote", url, model, str(dimension))

    @classmethod
    async def open(
        cls,
        *,
        base_url: str,
        model: str,
        api_key: str | None = None,
        dimension: int | None = None,
        max_bytes: int = 2000,
        answer_within: timedelta = timedelta(seconds=5),
        connections: int = 8,
    ) -> RemoteEncoder:
        """Connect to `{base_url}/embeddings` and embed a word, to learn or check the dimension.

        `max_bytes` bounds a text in UTF-8; set it so that the service never cuts a text.
        Raise EncoderFailed when the service does not answer as it should.
        """
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=aiohttp.ClientTimeout(total=answer_within.total_seconds()),
        )
        url = f"{base_url.rstrip('/')}/embeddings"
        encoder = cls(session, url=url, model=model, dimension=dimension or 0, max_bytes=max_bytes)
        try:
            found = (await encoder.encode(["warm-up"])).shape[1]
        except BaseException:
            await session.close()
            raise
        return cls(session, url=url, model=model, dimension=found, max_bytes=max_bytes)

    def fits(self, text: str) -> bool:
        """Whether `text` has something to see and at most `max_bytes` bytes of UTF-8."""
        if len(text) > self._max_bytes or not text or text.isspace():
            return False
        try:
            return len(text.encode()) <= self._max_bytes
        except UnicodeEncodeError:  # lone surrogates
            return False

    def first_window(self, text: str) -> str | None:
        """Return the beginning of `text`, in whole words where it has any, as a text that fits."""
        if text[: self._max_bytes].isspace():
            text = text.lstrip()
        encoded = text[: self._max_bytes].encode("utf-8", "replace")[: self._max_bytes]
        cut = encoded.decode("utf-8", "ignore")  # a character that was cut in two is left out
        if len(cut) < len(text) and not text[len(cut)].isspace():
            words = cut.rsplit(maxsplit=1)
            if len(words) == 2 and not cut[-1].isspace():
                cut = words[0]
        return cut if self.fits(cut) else None

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row a text; raise EncoderFailed if the service fails or answers wrong."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        # base64 is what the official SDK asks for; a service that knows only floats sends floats.
        question = {"model": self._model, "input": list(texts), "encoding_format": "base64"}
        try:
            answer = await self._ask(orjson.dumps(question))
            return _read(answer, len(texts), self.dimension)
        except EncoderFailed:
            raise
        except TimeoutError as error:
            raise EncoderFailed(f"{self._url} did not answer in time") from error
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # Runtime: session is closed
            raise EncoderFailed(f"{self._url} cannot be reached: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise EncoderFailed(f"{self._url} sent no embeddings: {error}") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _ask(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        async with self._session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as response:
            content = bytearray()
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise EncoderFailed(f"{self._url} sent more than {MAX_ANSWER_BYTES} bytes")
            if response.status != 200:
                words = content[:MAX_ERROR_CHARS].decode(errors="replace")
                # It may repeat the text, which belongs in no log that is not asked for it.
                logger.debug("%s answered %d: %s", self._url, response.status, words)
                raise EncoderFailed(f"{self._url} answered {response.status}")
            return orjson.loads(content)


def _read(answer: Any, count: int, dimension: int) -> Vectors:
    """Return unit rows in the order of the texts; raise ValueError, TypeError or KeyError.

    Rows are placed by their `index`: taking them in order of arrival could give one text another
    text's vector. `dimension` 0 accepts any.
    """
    rows: dict[int, Vector] = {item["index"]: _vector(item["embedding"]) for item in answer["data"]}
    if len(answer["data"]) != count or sorted(rows) != list(range(count)):
        found = f"{len(answer['data'])} items with indexes {sorted(rows)[:8]}"
        raise ValueError(f"{found} for {count} texts")
    vectors = np.stack([rows[i] for i in range(count)])
    if dimension and vectors.shape[1] != dimension:
        raise ValueError(f"vectors of {vectors.shape[1]} numbers, expected {dimension}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError("a vector without a direction")
    unit: Vectors = vectors / lengths
    return unit


def _vector(embedding: Any) -> Vector:
    """Read one embedding, written as numbers or as base64 of little-endian float32."""
    if isinstance(embedding, str):
        try:
            numbers = np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
        except binascii.Error as error:
            raise ValueError(f"bad base64: {error}") from None
    else:
        numbers = np.array(embedding, "<f4")
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"an embedding of shape {numbers.shape}")
    return numbers
