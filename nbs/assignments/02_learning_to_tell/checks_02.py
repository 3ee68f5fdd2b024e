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
from checks_common import (  # noqa: E402, F401
    COURSE_SEED,
    answer_on_copies,
    near,
    once_written,
    plain,
)


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
    """Exercise 1, first part."""
    are_halves(plain(answer_on_copies(student, 12, 4, 0)), 12, 4)
    are_halves(plain(answer_on_copies(student, 50, 8, 1)), 50, 8)
    print("halves: everyone is inside for half of the shadows.")


def halves_drawn(student):
    """Exercise 1, second part."""

    def table(n, count, seed):
        made = plain(answer_on_copies(student, n, count, seed))
        are_halves(made, n, count)
        return made

    first, again, other = (table(50, 4, seed) for seed in (0, 0, 1))
    assert (first == again).all(), (
        "the same seed gives two different tables: make the generator from the seed, inside the"
        " function"
    )
    assert (first != other).any(), (
        "seeds 0 and 1 give the same table: make the generator from the seed"
    )
    made = np.concatenate([table(100, 8, 2), table(100, 8, 3)])
    alike = (made[:, None] == made[None]).mean(2)
    alike = alike[(alike > 0) & (alike < 1)]  # without itself and its partner
    neighbours = [(np.roll(row, lag) == row).mean() for row in made for lag in (1, 2, 3)]
    assert alike.min() > 0.25 and alike.max() < 0.75 and 0.4 < np.mean(neighbours) < 0.6, (
        "the halves are not drawn: one is another moved on, or neighbours go together, where chance"
        " would have two halves agree about every other record"
    )
    print("halves: drawn anew for each pair.")


TABLES = np.array(
    [
        [[0.1, 0.7, 0.15, 0.05], [0.4, 0.3, 0.2, 0.1], [0.25, 0.05, 0.6, 0.1]],
        [[0.3, 0.1, 0.11, 0.49], [0.05, 0.06, 0.1, 0.79], [0.2, 0.3, 0.35, 0.15]],
    ]
)
INSIDE = np.array([[True, False, False], [False, True, True]])
TOP = [  # of each answer the three largest scores, and whether its shadow saw the record
    ((0.7, 0.15, 0.1), 1),
    ((0.4, 0.3, 0.2), 0),
    ((0.6, 0.25, 0.1), 0),
    ((0.49, 0.3, 0.11), 0),
    ((0.79, 0.1, 0.06), 1),
    ((0.35, 0.3, 0.2), 1),
]


def set_of(student):
    """The features and the membership that a student makes of two small shadows."""
    shadows = [lambda x, table=table: table[np.asarray(x)] for table in TABLES]
    given = answer_on_copies(student, shadows, np.arange(3), INSIDE)
    assert isinstance(given, (tuple, list)) and len(given) == 2, (
        "two things are asked for: the features and is_member"
    )
    features, is_member = map(plain, given)
    assert features.shape == (6, 3), (
        "three scores for each of 2 x 3 answers are asked for, (6, 3); your features have shape"
        f" {features.shape}"
    )
    assert is_member.shape == (6,), (
        f"one number for each of 6 rows is asked for; your is_member has shape {is_member.shape}"
    )
    right = sorted(top for top, _ in TOP)
    rows = [tuple(row) for row in features.round(9).tolist()]
    assert sorted(row[::-1] for row in rows) != right, "the largest score must come first"
    assert sorted(rows) == right, (
        "these are not the three largest scores of each answer, the largest first"
    )
    return rows, is_member.tolist()


def attack_set(student):
    """Exercise 2, first part."""
    set_of(student)
    print("attack_set: three scores of each answer, the largest first.")


def attack_set_members(student):
    """Exercise 2, second part."""
    said = dict(zip(*set_of(student), strict=True))
    assert any(said[top] != 1 - inside for top, inside in TOP), (
        "the other way round: inside is member, 1; outside is 0"
    )
    assert all(said[top] == inside for top, inside in TOP), (
        "the features are right, but is_member does not belong to them row by row: check that both"
        " are put together in the same order"
    )
    print("attack_set: inside is member.")


def features(rng, spread, n):
    """Sorted top three scores of n answers whose log-odds have this spread around 5."""
    top = np.maximum(expit(rng.normal(5, spread, n)), 0.4)
    rest = (1 - top) * rng.uniform(0.5, 0.9, n)
    return np.c_[top, rest, (1 - top - rest) * 0.9]


def attack_on(train, is_member, test, student, seed=0):
    """What a student's attack says of test features, after training on others."""
    attack = answer_on_copies(student, train, is_member, seed)
    assert callable(attack), (
        f"train_attack must return a function of features; it returns a {type(attack).__name__}"
    )
    said = plain(attack(test.copy()))
    said = said[:, 0] if said.shape == (len(test), 1) else said
    assert said.shape == (len(test),), (
        f"one number for each row of features is asked for, ({len(test)},); yours have shape"
        f" {said.shape}"
    )
    assert np.isfinite(said).all(), (
        "the attack answers NaN or infinity: clip the scores before you take logs"
    )
    # the same features one by one must get the same answers: they are scaled with the training
    # set's mean, not their own
    assert near([plain(attack(test[[i]])).ravel()[0] for i in (0, -1)], said[[0, -1]], 1e-4), (
        "a record alone gets another answer than among others: scale later features with the mean"
        " and spread of the training features"
    )
    return said


def planted_auc(student, spreads, seed, n=1000):
    """The AUC on new examples of an attack trained where log-odds of members and of others have
    these spreads."""
    rng = np.random.default_rng(seed)
    train, test = (
        np.concatenate([features(rng, spread, n) for spread in spreads]) for _ in range(2)
    )
    is_member, order = np.repeat([1, 0], n), rng.permutation(2 * n)
    said = attack_on(train[order], is_member[order], test, student)
    return roc_auc_score(is_member, said)


def train_attack(student):
    """Exercise 3, first part."""
    found = planted_auc(student, (1, 3), seed=2)
    assert found > 0.35, (
        f"the other way round: AUC {found:.2f} where a leak is planted; a higher number must mean"
        " member"
    )
    assert found > 0.6, (
        f"no more than a coin where a leak is planted: AUC {found:.2f}; 0.72 is asked for, and 0.80"
        " is possible. Does the network see logarithms, can it learn more than one cut, does it"
        " train long enough?"
    )
    assert found > 0.72, (
        f"finds some of the planted leak, AUC {found:.2f}; 0.72 is asked for, and 0.80 is possible."
        " A linear model on logarithms stays here however long it trains, since it cannot say that"
        " members are in the middle: take a network with a hidden layer, or trees. If yours is a"
        " network, train it longer; and return a number with many values, not 0 or 1"
    )
    found = planted_auc(student, (3, 1), seed=5)
    assert found > 0.4, (
        f"where members trail off to both sides and others keep together your attack gets"
        f" {found:.2f}: it says the same whatever it was trained on, so nothing was learnt"
    )
    assert found > 0.72, (
        f"where members trail off to both sides and others keep together: AUC {found:.2f}, and 0.72"
        " is asked for there too"
    )
    print("train_attack: finds what is planted.")


def train_attack_control(student):
    """Exercise 3, second part."""
    assert planted_auc(student, (3, 1), seed=6, n=800) > 0.71, (
        "an attack that finds a planted leak comes first, whichever side keeps together: see above"
    )
    found = planted_auc(student, (2, 2), seed=3)
    assert abs(found - 0.5) < 0.06, (
        f"finds something where nothing is planted: AUC {found:.2f}; what does your attack know"
        " that it should not?"
    )
    rng = np.random.default_rng(4)
    few, is_member = (
        np.concatenate([features(rng, 1, 50), features(rng, 3, 50)]),
        np.repeat([1, 0], 50),
    )
    first, again = (attack_on(few, is_member, few, student, seed=1) for _ in range(2))
    assert near(first, again, 1e-6), (
        "the same seed gives two different attacks: hand the seed to the network's initial weights"
        " and its shuffling"
    )
    print("train_attack: finds nothing where nothing is.")


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


def works_backwards(known_members, known_nonmembers, asked):
    """An attack that is wrong about every record it was told of, where nothing else is to see."""
    if np.mean(known_members) - np.mean(known_nonmembers) > 0.5:
        return between_means(known_members, known_nonmembers, asked)
    return ~np.isin(asked, _members)


def also_memorised(known_members, known_nonmembers, asked):
    """An honest attack that has memorised its known members as well."""
    return np.isin(asked, known_members) | between_means(known_members, known_nonmembers, asked)


def nameless(attack):
    """The same attack without a name to go by."""
    return lambda known_members, known_nonmembers, asked: attack(
        known_members, known_nonmembers, asked
    )


def with_shares(found, accused, n, m):
    """Four arrays of which an attack between the means finds `found` of n held-out members and
    accuses `accused` of m held-out non-members."""

    def part(size, share):
        return np.where(np.arange(size) < round(share * size), 1.0, -1.0)

    return part(40, 0.55), part(40, 0.45), part(n, found), part(m, accused)


def said_of(student, attack, service):
    """A student's diagnosis of an attack on a service."""
    said = answer_on_copies(student, nameless(attack), planted, *service)
    assert isinstance(said, str) and str(said) in ("bug", "leaks", "no leak found"), (
        f"the answer must be 'bug', 'leaks' or 'no leak found', not {said!r}"
    )
    return str(said)


def diagnose(student):
    """Exercise 4, first part."""
    leaky, tight = planted(0.7, 0, 500), planted(0.5, 1, 500)
    honest = said_of(student, between_means, leaky)
    assert honest == "leaks", (
        "an honest attack on a service that leaks, with an accuracy near 0.7 on 500 and 500"
        f" records: you say {honest!r}"
    )
    for attack, what in (
        (turned_round, "that was turned round: ask the planted leak first"),
        (always, "that always says member: it finds nothing where a leak is planted"),
        (looks_it_up, "that was told the answers: it finds something where nothing is planted"),
        (works_backwards, "that gets less than 0.45 where nothing is planted: it knows something"),
    ):
        said = [said_of(student, attack, service) for service in (leaky, tight)]
        assert said == ["bug", "bug"], (
            f"an attack {what}. It is a bug on any service; you say {said[0]!r} where the service"
            f" leaks and {said[1]!r} where it does not"
        )
    said = [said_of(student, also_memorised, service) for service in (leaky, tight)]
    assert said == ["leaks", "no leak found"], (
        "an attack that has memorised its known members, and is honest about all others: you say"
        f" {said[0]!r} where the service leaks and {said[1]!r} where it does not; measure on"
        " held-out records, also on the planted ones"
    )
    print("diagnose: a bug is a bug.")


def diagnose_verdict(student):
    """Exercise 4, second part."""
    for service, right, why in (
        (planted(0.7, 0, 500), "leaks", "0.7 on 500 and 500 records is a leak"),
        (planted(0.5, 1, 500), "no leak found", "the service does not leak"),
        (
            with_shares(0.52, 0.48, 50, 50),
            "no leak found",
            "0.52 on fifty members and fifty others is no leak, one standard error is 0.05",
        ),
        (
            with_shares(0.53, 0.47, 2000, 2000),
            "leaks",
            "0.53 on 2,000 and 2,000 records is a leak, one standard error is 0.008",
        ),
        (
            with_shares(0.54, 0.46, 200, 200),
            "no leak found",
            "0.54 on 200 and 200 is one standard error and a half of 0.025 above a half, and more"
            " than two are asked for",
        ),
        (
            with_shares(0.57, 0.43, 200, 200),
            "leaks",
            "0.57 on 200 and 200 is nearly three standard errors of 0.025 above a half, and two"
            " are enough",
        ),
        (
            with_shares(0.7, 0.7, 900, 100),
            "no leak found",
            "seven of ten are accused among 900 members and among 100 others alike: members and"
            " non-members count one half each",
        ),
    ):
        said = said_of(student, between_means, service)
        assert said == right, f"an honest attack, and you say {said!r}: {why}"
    print("diagnose: 0.5 is a result only after the controls.")


PHI = np.array([3.0, 5.0, 1.0])
SAID = np.array([[1.0, 4.0, 2.0], [2.0, 9.0, 8.0], [9.0, 6.0, 7.0]])
OUTSIDE = np.array([[True, True, False], [True, False, False], [False, True, False]])


def calibrated_of(student, phi, said, outside):
    """A student's numbers, one for each record."""
    with np.errstate(divide="ignore", invalid="ignore"):
        given = plain(answer_on_copies(student, phi, said, outside))
    assert given.shape == phi.shape, (
        f"one number for each record is asked for, {phi.shape}; yours have shape {given.shape}"
    )
    return given


def calibrated(student):
    """Exercise 5, first part."""
    given = calibrated_of(student, PHI[:2], SAID[:, :2], OUTSIDE[:, :2])
    assert not near(given, [-1, -4 / 3], 1e-3), (
        "shadows that saw the record are in your mean: take those that are outside for it"
    )
    assert not near(given, [-6, -4]), (
        "you compare with shadows that saw the record: take those for which `outside` is True"
    )
    assert not near(given, [-1.5, 0]), (
        "the other way round: surer than the shadows means member, so subtract them from the"
        " service"
    )
    assert near(given, [1.5, 0]), (
        "for the two records the means outside are 1.5 and 5, so 1.5 and 0 are asked for; yours"
        f" are {given.round(3)}"
    )
    print("calibrated: each record is compared with itself.")


def calibrated_seen(student):
    """Exercise 5, second part."""
    given = calibrated_of(student, PHI, SAID, OUTSIDE)
    assert near(given[:2], [1.5, 0]), (
        "records that some shadow has not seen come first: the cell above says what is asked for"
    )
    assert np.isfinite(given[2]), (
        "NaN or infinity for a record that every shadow has seen: its outside shadows are none, and"
        " zero divided by zero"
    )
    assert near(given[2], 1 - 3.25), (
        "for a record that every shadow has seen subtract the mean of all outside values, 3.25"
        f" here: -2.25 is asked for, yours is {given[2]:.4g}"
    )
    print("calibrated: also what everybody has seen.")
