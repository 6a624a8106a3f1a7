"""The encoder as it is trained: MiniLM in torch, its upper layers trainable, the rest kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from embed.checkpoint import TOKENIZER
from embed.encoder import Vectors
from embed.export import packaged_model_dir
from embed.window import Window, group_by_length

FloatArray = npt.NDArray[np.float32]
State = Mapping[str, FloatArray]  # parameter name in the torch transformer -> its values

WEIGHTS = "model.safetensors"
MAX_TOKENS = 256  # the packaged model's window
GROUP_TOKENS = 4096  # padded tokens a forward pass: its activations take some 100 MiB a layer
GROUP_SLACK = 1.3  # longest over shortest text in it: more padding costs more than another pass
AT_ONCE = 1024  # texts of which all layers' outputs are asked for together
LAYER = "encoder.layer."


class StateMismatch(ValueError):
    """A state does not name the parameters of this model, or not in their shapes."""


class SimilarityModel:
    """MiniLM whose top layers train.

    What the lower layers make of a text never changes, so it is computed once a text and kept: an
    epoch then costs the upper layers alone. They are also all that a client sends.
    """

    def __init__(
        self,
        trainable_layers: int = 2,
        *,
        start: State | None = None,
        folder: Path | None = None,
        kept_texts: int = 20_000,
    ) -> None:
        """Load the packaged model (or that of `folder`), `start` laid over it.

        `start` is a checkpoint's trained.npz. Lower layers' outputs of up to `kept_texts` texts are
        kept (1.5 KiB a token). Raise StateMismatch, and ValueError when there are fewer layers.
        """
        folder = folder or packaged_model_dir()
        self._bert = BertModel(BertConfig.from_pretrained(str(folder)), add_pooling_layer=False)
        # The file has a pooling layer too, which sentence-transformers does not use.
        loaded = self._bert.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        if loaded.missing_keys:
            raise StateMismatch(f"{folder / WEIGHTS} lacks {', '.join(loaded.missing_keys[:3])}")
        self._bert.train(False)  # no dropout: every client sees the same function
        layers = len(self._bert.encoder.layer)
        if not 1 <= trainable_layers <= layers:
            raise ValueError(f"trainable_layers is {trainable_layers}, allowed: 1 to {layers}")
        self._frozen_layers = layers - trainable_layers
        self._lay_over(start or {})
        self._trainable: dict[str, torch.nn.Parameter] = {}
        for name, parameter in self._bert.named_parameters():
            trains = name.startswith(LAYER) and int(name.split(".")[2]) >= self._frozen_layers
            parameter.requires_grad_(trains)
            if trains:
                self._trainable[name] = parameter
        self._window = Window(folder / TOKENIZER, MAX_TOKENS)
        self.fits = self._window.fits
        self._kept: dict[str, torch.Tensor] = {}
        self._first_state = self.state()
        self._first: dict[str, torch.Tensor] = {}
        self._kept_texts = kept_texts

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._bert.config.hidden_size)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the parameters that train, in the order of their names in `state`."""
        return list(self._trainable.values())

    def state(self) -> dict[str, FloatArray]:
        """Return a copy of every trainable parameter by its name in the torch transformer."""
        return {name: p.detach().numpy().copy() for name, p in self._trainable.items()}

    def load_state(self, state: State) -> None:
        """Take over what `state` gave; raise StateMismatch unless it is all of it, and no more."""
        if state.keys() != self._trainable.keys():
            odd = sorted(state.keys() ^ self._trainable.keys())
            raise StateMismatch(f"parameters missing or unknown: {', '.join(odd[:3])}")
        self._lay_over(state)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row of shape (dimension,) a text; of a long one that of its beginning."""
        with torch.inference_mode():
            return cast(Vectors, self._in_parts(texts).numpy())

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return unit rows of shape (n, dimension) through which gradients flow to `parameters`."""
        hidden = self._frozen(texts)
        rows: list[torch.Tensor] = []
        order: list[int] = []
        for group in _groups([len(h) for h in hidden]):
            padded = torch.nn.utils.rnn.pad_sequence([hidden[i] for i in group], batch_first=True)
            lengths = [len(hidden[i]) for i in group]
            mask, attention = _masks(lengths)
            for layer in self._bert.encoder.layer[self._frozen_layers :]:
                padded = layer(padded, attention)
            mean = (padded * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean, dim=1))
            order += group
        if not rows:
            return torch.empty((0, self.dimension))
        return torch.cat(rows)[torch.argsort(torch.tensor(order))]

    def first_vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the unit rows (n, dimension) that the model made before any training; kept."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._first]
        if len(self._first) + len(fresh) > self._kept_texts:
            self._first.clear()
            fresh = list(dict.fromkeys(texts))
        if fresh:
            with self.at(self._first_state), torch.no_grad():
                self._first |= dict(zip(fresh, self._in_parts(fresh), strict=True))
        return torch.stack([self._first[text] for text in texts])

    def _in_parts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return their rows without gradients, never holding more of texts than may be kept."""
        most = min(AT_ONCE, self._kept_texts)
        parts = [self.vectors(texts[at : at + most]) for at in range(0, len(texts), most)]
        return torch.cat(parts) if parts else self.vectors([])

    @contextmanager
    def at(self, state: State) -> Iterator[None]:
        """Be at `state` for a while, then at what was before."""
        before = self.state()
        self.load_state(state)
        try:
            yield
        finally:
            self.load_state(before)

    def _lay_over(self, state: State) -> None:
        parameters = dict(self._bert.named_parameters())
        for name, values in state.items():
            shape = tuple(parameters[name].shape) if name in parameters else None
            if values.shape != shape:
                raise StateMismatch(f"{name} has shape {values.shape}, the model's: {shape}")
        with torch.no_grad():
            for name, values in state.items():
                parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(values, np.float32)))

    def _readable(self, text: str) -> str:
        return text if self.fits(text) else self._window.first_window(text) or ""

    def _frozen(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Return what the kept layers make of each text, shape (tokens, dimension)."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if len(self._kept) + len(fresh) > self._kept_texts:
            self._kept.clear()
            fresh = list(dict.fromkeys(texts))
        ids = [self._window.ids(self._readable(text)) for text in fresh]
        with torch.no_grad():
            for group in _groups([len(row) for row in ids]):
                lengths = [len(ids[i]) for i in group]
                rows = [torch.tensor(ids[i]) for i in group]
                padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
                _, attention = _masks(lengths)
                hidden = self._bert.embeddings(input_ids=padded)
                for layer in self._bert.encoder.layer[: self._frozen_layers]:
                    hidden = layer(hidden, attention)
                for place, i in enumerate(group):
                    self._kept[fresh[i]] = hidden[place, : lengths[place]].clone()
        return [self._kept[text] for text in texts]


def _groups(lengths: Sequence[int]) -> list[list[int]]:
    return group_by_length(lengths, max_tokens=GROUP_TOKENS, slack=GROUP_SLACK)


def _masks(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the mask of real tokens (n, longest, 1), and that for attention, None if all are."""
    places = torch.arange(max(lengths))
    real = places[None, :] < torch.tensor(lengths)[:, None]
    attention = None if bool(real.all()) else real[:, None, None, :]
    return real.unsqueeze(-1).float(), attention
