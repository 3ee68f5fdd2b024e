"""Assignment 1 as others would do it."""

from submissions import Submission

SUBMISSIONS = {
    "another_way": Submission(
        {  # loops and scikit-learn where the solution has numpy
            "split_by_person": (
                """
from sklearn.model_selection import GroupKFold

def split_by_person(person, seed):
    people = sorted(set(person.tolist()), key=str)
    np.random.RandomState(seed).shuffle(people)
    side = {one: number % 3 for number, one in enumerate(people)}
    return tuple([row for row, one in enumerate(person.tolist()) if side[one] == number] for number in range(3))
"""
            ),
            "gap_attack": (
                """
def gap_attack(scores, y):
    return [int(max(range(len(row)), key=lambda c: row[c]) == label) for row, label in zip(scores, y)]
"""
            ),
            "balanced_accuracy": (
                """
from sklearn.metrics import balanced_accuracy_score

def balanced_accuracy(said_members, said_nonmembers):
    truth = [1] * len(said_members) + [0] * len(said_nonmembers)
    return balanced_accuracy_score(truth, np.concatenate([said_members, said_nonmembers]))
"""
            ),
            "attack_accuracy": (
                """
from sklearn.metrics import roc_curve

def attack_accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    truth = np.r_[np.ones(len(known_members)), np.zeros(len(known_nonmembers))]
    fpr, tpr, thresholds = roc_curve(truth, np.r_[known_members, known_nonmembers], drop_intermediate=False)
    t = thresholds[np.argmax(tpr - fpr)]
    found, spared = 0, 0
    for p in heldout_members: found += p >= t
    for p in heldout_nonmembers: spared += p < t
    return .5 * found / len(heldout_members) + .5 * spared / len(heldout_nonmembers)
"""
            ),
            "log_odds": (
                """
def log_odds(scores, y):
    values = []
    for row, label in zip(scores, y):
        p, others = row[label], sum(s for c, s in enumerate(row) if c != label)
        values.append(np.log(max(p, 1e-30)) - np.log(max(others, 1e-30)))
    return values
"""
            ),
            "tpr_at_fpr": (
                """
from sklearn.metrics import roc_curve

def tpr_at_fpr(members, nonmembers, fpr):
    truth = np.r_[np.ones(len(members)), np.zeros(len(nonmembers))]
    false, true, _ = roc_curve(truth, np.r_[members, nonmembers], drop_intermediate=False)
    return true[false <= fpr].max()
"""
            ),
        }
    ),
    "grid_of_thresholds": Submission(
        {
            "attack_accuracy": (
                """
def attack_accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    grid = np.linspace(0, 1, 1001)
    best = grid[np.argmax([(known_members >= t).mean() - (known_nonmembers >= t).mean() for t in grid])]
    return ((heldout_members >= best).mean() + (heldout_nonmembers < best).mean()) / 2
"""
            )
        }
    ),
    "photographs_dealt": Submission(
        {
            "split_by_person": (
                """
def split_by_person(person, seed):
    return np.array_split(np.random.default_rng(seed).permutation(len(person)), 3)
"""
            )
        },
        {"test_split_by_person": 10},
        "has photographs in D1 and in D",
    ),
    "never_shuffled": Submission(
        {
            "split_by_person": (
                """
def split_by_person(person, seed):
    return [np.flatnonzero(np.isin(person, some)) for some in np.array_split(np.unique(person), 3)]
"""
            )
        },
        {"test_split_by_person": 10},
        "the same split: shuffle",
    ),
    "flipped": Submission(
        {
            "gap_attack": (
                """
def gap_attack(scores, y):
    return scores.argmax(1) != y
"""
            )
        },
        {"test_gap_attack": 10},
        "the other way round: say member where the service is right",
    ),
    "all_in_one_set": Submission(
        {
            "balanced_accuracy": (
                """
def balanced_accuracy(said_members, said_nonmembers):
    return np.concatenate([said_members, ~said_nonmembers]).mean()
"""
            )
        },
        {"test_balanced_accuracy": 10},
        "as if all records were one set",
    ),
    "chosen_on_heldout": Submission(
        {
            "attack_accuracy": (
                """
def attack_accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    accuracy = lambda t: (np.mean(heldout_members >= t) + np.mean(heldout_nonmembers < t)) / 2
    return max(accuracy(t) for t in np.concatenate([heldout_members, heldout_nonmembers]))
"""
            )
        },
        {"test_attack_accuracy": 10},
        "chosen on the held-out halves",
    ),
    "measured_where_chosen": Submission(
        {
            "attack_accuracy": (
                """
def attack_accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    accuracy = lambda t: (np.mean(known_members >= t) + np.mean(known_nonmembers < t)) / 2
    return max(accuracy(t) for t in np.concatenate([known_members, known_nonmembers]))
"""
            )
        },
        {"test_attack_accuracy": 10},
        "accuracy on the known halves",
    ),
    "log_of_zero_and_quantile": Submission(
        {
            "log_odds": (
                """
def log_odds(scores, y):
    p = scores[np.arange(len(y)), y]
    return np.log(p) - np.log(1 - p)
"""
            ),
            "tpr_at_fpr": (
                """
def tpr_at_fpr(members, nonmembers, fpr):
    return np.mean(members >= np.quantile(nonmembers, 1 - fpr))
"""
            ),
        },
        {"test_log_odds": 10, "test_tpr_at_fpr": 10},
        "log of zero",
    ),
    "predicted_class": Submission(
        {
            "log_odds": (
                """
def log_odds(scores, y):
    p = scores.max(1).clip(1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))
"""
            )
        },
        {"test_log_odds": 10},
        "the predicted class instead of the true one",
    ),
}
