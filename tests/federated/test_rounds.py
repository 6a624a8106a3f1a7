"""Rounds over sites that stay, leave, come back, are broken or have nothing to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message

from federated import server_app
from federated.exchange import TooFewClients
from federated.records import ARRAYS, EXAMPLES, METRICS, TRAIN
from federated.run_state import RunStateInvalid
from federated.server_app import NothingLearned
from federated.task import Site
from tests.federated.in_process import TinyModel, federation, pairs_of, share_of_ones

Options = dict[str, bool | int | float | str]


def trained(reply: Message) -> bool:
    return not reply.has_error() and ARRAYS in reply.content


def moved(state: dict[str, np.ndarray]) -> float:
    """How far every weight of the tiny model has moved: all of them by the same."""
    ways = [state[name] - start for name, start in TinyModel().state().items()]
    assert all(np.allclose(way, ways[0].flat[0], atol=1e-6) for way in ways)
    return float(ways[0].flat[0])


def step_of(*sites: Site) -> float:
    """What one round moves the weights by: the sites' steps, weighted by their pairs."""
    steps = [share_of_ones(site) / 10 for site in sites]
    return float(np.average(steps, weights=[len(site.learns_from) for site in sites]))


def test_a_round_is_the_mean_of_the_sites_weighted_by_their_pairs(tmp_path: Path) -> None:
    lists = [pairs_of(1, 30, 15), pairs_of(2, 60, 10)]
    with federation(tmp_path, lists, num_server_rounds=1) as sites:
        record = sites.run()
        expected = step_of(*(Site.of(pairs) for pairs in lists))
        assert moved(sites.published) == pytest.approx(expected, rel=1e-5)
    assert (record.clients, record.round) == (2, 1)
    assert record.pairs == sum(len(Site.of(pairs).learns_from) for pairs in lists)


def test_the_checkpoint_says_where_it_comes_from(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1, 80, 40), pairs_of(2, 80, 40)]) as sites:
        record = sites.run()
        told = sites.lineage
    assert told["parent"] == "parent-1" and told["clients"] == 2
    assert told["rounds"] == record.best_round in (1, 2)
    assert told["thresholds"].keys() == {"", "faq", "code"}
    assert told["metrics"].keys() == {"f05", "precision", "recall", "false_hit_rate"}
    assert [row["round"] for row in record.history] == [0, 1, 2]
    assert told["history"] == record.history


def test_a_site_with_too_few_or_one_sided_labels_evaluates_but_does_not_train(
    tmp_path: Path,
) -> None:
    lists = [pairs_of(1), pairs_of(2, 3, 1), pairs_of(3, 30, 30)]
    with federation(tmp_path, lists) as sites:
        record = sites.run()
        training = {r.metadata.src_node_id for r in sites.grid.replies if trained(r)}
        told = {r.metadata.src_node_id for r in sites.grid.replies if METRICS in r.content}
    assert training == {1} and told == {1, 2, 3} and record.clients == 1


def test_without_a_site_that_trains_there_is_no_checkpoint(tmp_path: Path) -> None:
    with (
        federation(tmp_path, [pairs_of(1, 3, 1), pairs_of(2, 3, 1)]) as sites,
        pytest.raises(NothingLearned),
    ):
        sites.run()


def test_a_site_that_leaves_in_the_middle_of_a_round_is_left_out(tmp_path: Path) -> None:
    lists = [pairs_of(1), pairs_of(2, 60, 10), pairs_of(3)]
    with federation(tmp_path, lists, num_server_rounds=1, min_clients=2) as sites:
        sites.grid.tamper = lambda reply: None if reply.metadata.src_node_id == 2 else reply
        record = sites.run()
        rest = step_of(Site.of(lists[0]), Site.of(lists[2]))
        assert moved(sites.published) == pytest.approx(rest, rel=1e-5)
    assert record.clients == 2
    assert any("did not answer" in line for line in sites.lines)


def test_a_site_may_join_for_the_second_round(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2), pairs_of(3)]) as sites:
        sites.grid.there = {1, 2}

        def third_comes(reply: Message) -> Message:
            sites.grid.there = {1, 2, 3}
            return reply

        sites.grid.tamper = third_comes
        assert sites.run().clients == 3


def test_the_run_waits_for_sites_and_says_so_when_they_do_not_come(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)], min_clients=3) as sites:
        with pytest.raises(TooFewClients, match="2 clients are there, 3"):
            sites.run()
        assert any("2 of 3" in line for line in sites.lines)


def poisoned(kind: str, reply: Message) -> Message:
    record = reply.content.array_records[ARRAYS]
    values = {name: array.numpy().copy() for name, array in record.items()}
    if kind == "nan":
        values["weights"][0, 0] = np.nan
    elif kind == "shape":
        values["bias"] = values["bias"][:-1]
    elif kind == "name":
        values["other"] = values.pop("bias")
    elif kind == "type":
        values["bias"] = np.array(["x" * 4] * len(values["bias"]))
    elif kind == "examples":
        reply.content.metric_records[METRICS][EXAMPLES] = -5
    reply.content[ARRAYS] = ArrayRecord({n: Array(v) for n, v in values.items()})
    return reply


@pytest.mark.parametrize("kind", ["nan", "shape", "name", "type", "examples"])
@pytest.mark.parametrize("central", [False, True], ids=["plain", "central privacy"])
def test_a_broken_site_is_left_out_and_the_round_goes_on(
    kind: str, central: bool, tmp_path: Path
) -> None:
    lists = [pairs_of(1), pairs_of(2), pairs_of(3)]
    options: Options = {"central_dp": central, "noise_multiplier": 0.0, "clipping_norm": 1e6}
    with federation(tmp_path, lists, num_server_rounds=1, **options) as sites:

        def poison(reply: Message) -> Message:
            bad = reply.metadata.src_node_id == 2 and trained(reply)
            return poisoned(kind, reply) if bad else reply

        sites.grid.tamper = poison
        assert sites.run().clients == 2
        steps = [share_of_ones(Site.of(lists[n])) / 10 for n in (0, 2)]
        assert moved(sites.published) == pytest.approx(np.mean(steps), rel=0.05)
    assert any("client 2 is left out" in line for line in sites.lines)


def test_an_exploding_update_is_cut_to_a_multiple_of_the_median(tmp_path: Path) -> None:
    lists = [pairs_of(n) for n in (1, 2, 3)]
    with federation(tmp_path, lists, num_server_rounds=1, max_update_norm=2.0) as sites:

        def explode(reply: Message) -> Message:
            if reply.metadata.src_node_id == 2 and trained(reply):
                record = reply.content.array_records[ARRAYS]
                start = TinyModel().state()
                far = {n: start[n] + (a.numpy() - start[n]) * 1e6 for n, a in record.items()}
                reply.content[ARRAYS] = ArrayRecord({n: Array(v) for n, v in far.items()})
            return reply

        sites.grid.tamper = explode
        sites.run()
        usual = step_of(*(Site.of(pairs) for pairs in lists))
        assert moved(sites.published) < 2 * usual
    assert any("moved too far" in line for line in sites.lines)


def test_a_site_that_fails_tells_the_kind_of_fault_alone(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2), pairs_of(3)]) as sites:
        (tmp_path / "site-2.jsonl").write_text('{"q1": "my secret text", "q2": 5, "label": 1}\n')
        assert sites.run().clients == 2
        (first, *_) = [r for r in sites.grid.replies if r.has_error()]
    assert first.error.reason == "PairsInvalid"


def test_a_key_in_the_place_of_its_variables_name_is_not_told_and_the_site_reads_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2), pairs_of(3)]) as sites:
        sites.grid.contexts[2].node_config = {"proxy": "http://x", "proxy-key-env": "sk-secret"}
        assert sites.run().clients == 2
        errors = {r.error.reason for r in sites.grid.replies if r.has_error()}
    assert errors == {"NodeConfigInvalid"}
    assert "this site takes no part: proxy-key-env: sk-secret is not set" in caplog.text


@pytest.mark.parametrize("optimizer", ["fedavg", "fedadam"])
def test_a_crash_costs_one_round(optimizer: str, tmp_path: Path) -> None:
    lists = [pairs_of(1), pairs_of(2)]
    options: Options = {"num_server_rounds": 3, "server_optimizer": optimizer}
    with federation(tmp_path / "whole", lists, **options) as sites:
        sites.run()
        whole = sites.published
    with federation(tmp_path / "broken", lists, **options) as sites:

        def crash(reply: Message) -> Message:
            if len(sites.grid.asked) > 3:  # in the second round
                raise RuntimeError("the power went out")
            return reply

        sites.grid.tamper = crash
        with pytest.raises(RuntimeError):
            sites.run()
        sites.grid.tamper = lambda reply: reply
        asked = len(sites.grid.asked)
        record = sites.run()
        assert "going on after round 1" in sites.lines
        assert record.round == 3 and len(sites.grid.asked) == asked + 6
        for name, values in whole.items():
            np.testing.assert_array_equal(sites.published[name], values)


def test_a_crash_after_the_last_judging_leaves_one_line_of_figures_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation(tmp_path, [pairs_of(1, 80, 40), pairs_of(2, 80, 40)]) as sites:
        with monkeypatch.context() as patch:
            patch.setattr(server_app, "fitted_projection", lambda *_: 1 / 0)
            scores = iter([0.5, 0.6, 0.7])  # the last state is the best, so its judging is kept
            figures = {"precision": 1.0, "recall": 1.0, "false_hit_rate": 0.0}
            patch.setattr(
                "federated.strategy.mean_metrics", lambda _: {"f05": next(scores), **figures}
            )
            with pytest.raises(ZeroDivisionError):
                sites.run()
        assert [row["round"] for row in sites.run().history] == [0, 1, 2]


def test_an_unfinished_run_is_not_gone_on_with_under_other_options(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)]) as sites:
        sites.grid.there = {1, 2}

        def leave(reply: Message) -> Message:
            sites.grid.there = set()
            return reply

        sites.grid.tamper = leave
        with pytest.raises(TooFewClients):
            sites.run()
        sites.grid.there = {1, 2}
        with pytest.raises(RunStateInvalid, match="other options"):
            sites.run(learning_rate=0.5)


def test_a_run_that_begins_while_another_goes_on_leaves_its_directory_alone(
    tmp_path: Path,
) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)]) as sites:

        def begin_another(reply: Message) -> Message:
            sites.grid.tamper = lambda reply: reply
            with pytest.raises(RunStateInvalid, match="another run writes to"):
                sites.run()
            return reply

        sites.grid.tamper = begin_another
        assert sites.run().checkpoint == "tiny-0001"
        assert sites.run().checkpoint == "tiny-0002"


def test_a_run_that_has_ended_is_followed_by_another(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)]) as sites:
        assert sites.run().checkpoint == "tiny-0001"
        assert sites.run().checkpoint == "tiny-0002"


def test_it_stops_when_states_get_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation(tmp_path, [pairs_of(1), pairs_of(2)]) as sites:
        scores = iter([0.5, 0.7, 0.6, 0.6, 0.6])
        monkeypatch.setattr(
            "federated.strategy.mean_metrics",
            lambda _: {"f05": next(scores), "precision": 1.0, "recall": 1.0, "false_hit_rate": 0.0},
        )
        record = sites.run(num_server_rounds=9, patience=2)
    assert (record.best_round, record.best_score, record.round) == (1, 0.7, 3)


def test_some_are_drawn_to_train_and_the_others_judge(tmp_path: Path) -> None:
    with federation(tmp_path, [pairs_of(n) for n in range(1, 6)], clients_per_round=2) as sites:
        assert sites.run(num_server_rounds=1).clients == 2
        kinds = [m.metadata.message_type for m in sites.grid.asked[:5]]
        assert kinds.count(TRAIN) == 2
