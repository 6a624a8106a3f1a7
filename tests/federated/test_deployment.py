"""A real SuperLink and real SuperNodes behind TLS, each known by its key."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from federated.keys import node_key, superlink_keys
from federated.pairs import LabelledPair
from federated.processes import FlowerFailed, Value
from federated.simulate import write_pairs
from tests.federated.deployment import deployed
from tests.harness import free_port

TURNED_AWAY = "Connection attempt failed"  # what a SuperNode says to its log


@pytest.mark.timeout(300)
def test_known_nodes_answer_behind_tls_and_a_stranger_is_turned_away(tmp_path: Path) -> None:
    """Two sites have too few pairs to train or to judge, so that no model has to be loaded."""
    nodes: list[dict[str, Value]] = []
    for number in range(2):
        file = tmp_path / f"site-{number}.jsonl"
        write_pairs(file, [LabelledPair(f"question {number}", f"stored {number}", 1)])
        nodes.append({"pairs": str(file)})
    keys = [node_key(tmp_path / f"node-{n}") for n in range(2)]
    with deployed(
        tmp_path, nodes, tls=superlink_keys(tmp_path, ["127.0.0.1"]), keys=keys
    ) as federation:
        flower = federation.flower
        flower.supernode("stranger", free_port(), nodes[0], key=node_key(tmp_path / "stranger"))
        with pytest.raises(FlowerFailed, match="NothingLearned"):
            federation.run({"num-server-rounds": 1})
        said = "\n".join(federation.lines)
        assert "2 of 2 answered" in said and "of 3 answered" not in said
        deadline = time.monotonic() + 30
        while TURNED_AWAY not in flower.log("stranger") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert TURNED_AWAY in flower.log("stranger")
        flower.stop_supernode("stranger", kill=True)  # asked, it would finish its wait first
        assert TURNED_AWAY not in flower.log("site-0") + flower.log("site-1")
