"""The checks of assignment 2: each takes your function and says in a sentence what is wrong with
it."""

import sys
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

# In the repository what all assignments share lies one folder up, in a hand-out beside this file.
sys.path.append(str(Path(__file__).resolve().parents[1]))
from checks_common import answer_on_copies, once_written  # noqa: E402, F401


def are_halves(table, n, count):
    """Complain where a table does not deal n records to so many shadows in halves."""
    assert table.shape == (count, n), (
        f"a row for each shadow and a column for each record is asked for, ({count}, {n}); yours"
        f" has shape {table.shape}"
    )
    assert np.isin(table, (0, 1)).all(), "the table must hold True and False"
    table = table.astype(bool)
    sizes, seen = table.sum(1), table.sum(0)
    assert np.isin(sizes, (n // 2, n - n // 2)).all(), (
        f"each shadow trains on half of {n} records; these train on {sizes.tolist()}"
    )
    if (odd := seen[seen != count // 2]).size:
        raise AssertionError(
            f"some record is inside for {odd[0]} of {count} shadows, and should be for"
            f" {count // 2}: draw halves in pairs, each with its complement"
        )
    kinds = {min(row.tobytes(), (~row).tobytes()) for row in table}
    assert len(kinds) == count // 2, (
        f"{count // 2} pairs of shadows have only {len(kinds)} different halves between them, all"
        " pairs have the same halves or some do: draw anew for each pair, from one generator"
    )


def halves(student):
    """Exercise 1."""
    are_halves(np.asarray(answer_on_copies(student, 12, 4, 0)), 12, 4)
    are_halves(np.asarray(answer_on_copies(student, 50, 8, 1)), 50, 8)
    first, again, other = (np.asarray(answer_on_copies(student, 50, 4, seed)) for seed in (0, 0, 1))
    assert (first == again).all(), (
        "the same seed gives two different tables: make the generator from the seed, inside the"
        " function"
    )
    assert (first != other).any(), (
        "seeds 0 and 1 give the same table: make the generator from the seed"
    )
    print("halves: everyone is inside for half of the shadows.")


def same_rows(given, tables, inside):
    """Complain where an attack set does not hold the top three of these tables, in any order, with
    their membership."""
    assert isinstance(given, (tuple, list)) and len(given) == 2, (
        "two things are asked for: the features and is_member"
    )
    features, is_member = np.asarray(given[0], float), np.asarray(given[1]).astype(int)
    count, n = inside.shape
    assert features.shape == (count * n, 3), (
        f"three scores for each of {count} x {n} answers are asked for, ({count * n}, 3); your"
        f" features have shape {features.shape}"
    )
    assert is_member.shape == (count * n,), (
        f"one number for each of {count * n} rows is asked for; your is_member has shape"
        f" {is_member.shape}"
    )
    right = np.sort(np.concatenate(list(tables)), axis=1)[:, ::-1][:, :3]

    def rows(f, m):
        return sorted(map(tuple, np.c_[f, m].round(9).tolist()))

    if rows(features, is_member) == rows(right, inside.ravel()):
        return
    assert rows(features, is_member) != rows(right, 1 - inside.ravel()), (
        "the other way round: inside is member, 1; outside is 0"
    )
    assert rows(features, 0 * is_member) != rows(right[:, ::-1], 0 * is_member), (
        "the largest score must come first"
    )
    assert rows(np.sort(features, 1), 0 * is_member) == rows(np.sort(right, 1), 0 * is_member), (
        "these are not the three largest scores of each answer, the largest first"
    )
    raise AssertionError(
        "the features are right, but is_member does not belong to them row by row: check that both"
        " are put together in the same order"
    )


def attack_set(student):
    """Exercise 2."""
    tables = np.array(
        [
            [[0.1, 0.7, 0.15, 0.05], [0.4, 0.3, 0.2, 0.1], [0.25, 0.05, 0.6, 0.1]],
            [[0.3, 0.1, 0.1, 0.5], [0.05, 0.05, 0.1, 0.8], [0.2, 0.3, 0.35, 0.15]],
        ]
    )
    inside = np.array([[True, False, False], [False, True, True]])
    shadows = [lambda x, table=table: table[np.asarray(x)] for table in tables]
    same_rows(answer_on_copies(student, shadows, np.arange(3), inside), tables, inside)
    print("attack_set: inside is member, the largest score first.")


def features(rng, spread, n):
    """Sorted top three scores of n answers whose log-odds have this spread around 5."""
    top = np.maximum(expit(rng.normal(5, spread, n)), 0.4)
    rest = (1 - top) * rng.uniform(0.5, 0.9, n)
    return np.c_[top, rest, (1 - top - rest) * 0.9]


def planted_auc(student, leak, seed):
    """The AUC on new examples of an attack that was trained where a leak is planted, or none."""
    rng = np.random.default_rng(seed)
    train, test = (
        [features(rng, spread, 1000) for spread in ((1, 3) if leak else (2, 2))] for _ in range(2)
    )
    is_member = np.repeat([1, 0], 1000)
    order = rng.permutation(2000)
    attack = answer_on_copies(student, np.concatenate(train)[order], is_member[order], 0)
    assert callable(attack), (
        f"train_attack must return a function of features; it returns a {type(attack).__name__}"
    )
    said = np.asarray(attack(np.concatenate(test)), float)
    assert said.shape == (2000,), (
        f"one number for each row of features is asked for, (2000,); yours have shape {said.shape}"
    )
    assert np.isfinite(said).all(), (
        "the attack answers NaN or infinity: clip the scores before you take logs"
    )
    # the same features one by one must get the same answers: they are scaled with the training
    # set's mean, not their own
    assert np.allclose(
        [np.asarray(attack(np.concatenate(test)[i : i + 1]), float).ravel()[0] for i in (0, 1500)],
        said[[0, 1500]],
        atol=1e-4,
    ), (
        "a record alone gets another answer than among others: scale later features with the mean"
        " and spread of the training features"
    )
    return roc_auc_score(is_member, said)


def train_attack(student):
    """Exercise 3."""
    found = planted_auc(student, leak=True, seed=2)
    assert found > 0.35, (
        f"the other way round: AUC {found:.2f} where a leak is planted; a higher number must mean"
        " member"
    )
    assert found > 0.6, (
        f"no more than a coin where a leak is planted: AUC {found:.2f}, and 0.80 is possible; does"
        " the network see logarithms, can it learn more than one cut, does it train long enough?"
    )
    assert found > 0.72, (
        f"finds some of the planted leak, AUC {found:.2f}, and 0.80 is possible: train longer, or a"
        " larger network; and return a number with many values, not 0 or 1"
    )
    found = planted_auc(student, leak=False, seed=3)
    assert abs(found - 0.5) < 0.06, (
        f"finds something where nothing is planted: AUC {found:.2f}; what does your attack know"
        " that it should not?"
    )
    rng = np.random.default_rng(4)
    few, is_member = (
        np.concatenate([features(rng, 1, 50), features(rng, 3, 50)]),
        np.repeat([1, 0], 50),
    )
    first, again = (
        np.asarray(answer_on_copies(student, few, is_member, 1)(few), float) for _ in range(2)
    )
    assert np.allclose(first, again), (
        "the same seed gives two different attacks: hand the seed to the network's initial weights"
        " and its shuffling"
    )
    print("train_attack: finds what is planted, and nothing where nothing is.")


_members = []  # what was drawn as a member, for an attack that looks it up


def planted(bayes, seed=0, n=2000):
    """Known members, known non-members, held-out members, held-out non-members, on which the best
    possible accuracy is `bayes`."""
    rng, apart = np.random.default_rng([seed, round(1000 * bayes)]), norm.ppf(bayes)
    parts = [rng.normal(side * apart, 1, n) for side in (1, -1, 1, -1)]
    _members[:] = [*_members[-40000:], *parts[0], *parts[2]]
    return parts


def between_means(known_members, known_nonmembers, asked):
    """An honest attack: member at or above the middle between the means of known records."""
    return asked >= (np.mean(known_members) + np.mean(known_nonmembers)) / 2


def turned_round(known_members, known_nonmembers, asked):
    """An attack with its answers the wrong way round."""
    return ~between_means(known_members, known_nonmembers, asked)


def always(known_members, known_nonmembers, asked):
    """An attack that always says member."""
    return np.ones(len(asked), bool)


def looks_it_up(known_members, known_nonmembers, asked):
    """An attack that was told which records are members, and guesses where it was not."""
    return np.isin(asked, _members) | between_means(known_members, known_nonmembers, asked)


def also_by_heart(known_members, known_nonmembers, asked):
    """An honest attack that knows its known members by heart as well."""
    return np.isin(asked, known_members) | between_means(known_members, known_nonmembers, asked)


def cases(seed):
    """Attacks, services, and the right diagnosis."""
    leaky, tight = planted(0.7, seed, 500), planted(0.5, seed + 1, 500)
    few = [
        np.r_[-1.0, 1.0],
        np.r_[-1.5, -0.5],
        np.r_[np.full(26, 1.0), np.full(24, -1.0)],
        np.r_[np.full(24, 1.0), np.full(26, -1.0)],
    ]  # 0.52 on 50 and 50
    return [
        (between_means, leaky, "leaks"),
        (between_means, tight, "no leak found"),
        (between_means, few, "no leak found"),
        (turned_round, leaky, "bug"),
        (turned_round, tight, "bug"),
        (always, leaky, "bug"),
        (looks_it_up, leaky, "bug"),
        (looks_it_up, tight, "bug"),
        (also_by_heart, leaky, "leaks"),
        (also_by_heart, tight, "no leak found"),
    ]


def diagnose(student):
    """Exercise 4."""
    said = [answer_on_copies(student, attack, planted, *service) for attack, service, _ in cases(0)]
    assert all(one in ("bug", "leaks", "no leak found") for one in said), (
        f"the answer must be 'bug', 'leaks' or 'no leak found', not {said[0]!r}"
    )
    assert said[0] == "leaks", (
        "an honest attack on a service that leaks, with an accuracy near 0.7 on 500 and 500"
        f" records: you say {said[0]!r}"
    )
    assert said[1] == "no leak found", (
        f"an honest attack on a service that does not leak: you say {said[1]!r}"
    )
    assert said[2] == "no leak found", (
        "0.52 on fifty members and fifty others is no leak, one standard error is 0.05: you say"
        f" {said[2]!r}"
    )
    assert said[3] == said[4] == "bug", (
        f"an attack that was turned round: you say {said[3]!r} where the service leaks and"
        f" {said[4]!r} where it does not, and both times it is a bug; ask the planted leak first"
    )
    assert said[5] == "bug", (
        f"an attack that always says member is a bug, you say {said[5]!r}: it finds nothing where a"
        " leak is planted"
    )
    assert said[6] == said[7] == "bug", (
        f"an attack that was told the answers: you say {said[6]!r} and {said[7]!r}; it finds"
        " something where nothing is planted, so it is a bug"
    )
    assert said[8:] == ["leaks", "no leak found"], (
        "an attack that knows its known members by heart, and is honest about all others: you say"
        f" {said[8]!r} where the service leaks and {said[9]!r} where it does not; measure on"
        " held-out records, also on the planted ones"
    )
    print("diagnose: a bug is a bug, and 0.5 is a result only after the controls.")


def calibrated(student):
    """Exercise 5."""
    phi, said = (
        np.array([3.0, 5.0, 1.0]),
        np.array([[1.0, 4.0, 2.0], [2.0, 9.0, 8.0], [9.0, 6.0, 7.0]]),
    )
    outside = np.array([[True, True, False], [True, False, False], [False, True, False]])
    with np.errstate(divide="ignore", invalid="ignore"):
        given = np.asarray(answer_on_copies(student, phi, said, outside), float)
    assert given.shape == (3,), (
        f"one number for each record is asked for, (3,); yours have shape {given.shape}"
    )
    assert not np.allclose(given[:2], (phi - said.mean(0))[:2]), (
        "shadows that saw the record are in your mean: take those that are outside for it"
    )
    assert not np.allclose(given[:2], phi[:2] - [9, 9]), (
        "you compare with shadows that saw the record: take those for which `outside` is True"
    )
    assert not np.allclose(given[:2], [-1.5, 0]), (
        "the other way round: surer than the shadows means member, so subtract them from the"
        " service"
    )
    assert np.allclose(given[:2], [1.5, 0]), (
        "for the first two records the means outside are 1.5 and 5, so 1.5 and 0 are asked for;"
        f" yours are {given[:2].round(3)}"
    )
    assert np.isfinite(given[2]), (
        "NaN or infinity for a record that every shadow has seen: its outside shadows are none, and"
        " zero divided by zero"
    )
    assert np.isclose(given[2], 1 - 3.25), (
        "for a record that every shadow has seen subtract the mean of all outside values, 3.25"
        f" here: -2.25 is asked for, yours is {given[2]:.4g}"
    )
    print("calibrated: each record is compared with itself.")
