"""TF Privacy's attacks on scores from a file; runs in a Python of its own, see README.md.

    python benchmarks/peers_tf_privacy.py SCORES.npz ANSWERS.npz SEED

SCORES holds scores and true labels of four halves; ANSWERS gets one number a held-out record and a
threshold for each attack. TF Privacy divides records itself; here its own attackers are fitted on
the known halves and asked about the held-out ones.
"""

import sys

import numpy as np
from sklearn.model_selection import GridSearchCV
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
    membership_inference_attack as mia,
)
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import models
from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import (
    AttackInputData,
    AttackType,
)

THRESHOLDS = (AttackType.THRESHOLD_ATTACK, AttackType.THRESHOLD_ENTROPY_ATTACK)
# its forest tries 72 settings, half of them of a kind that scikit-learn no longer knows
# (max_features "auto"); these four corners of the other half take a tenth of the time
FOREST = {"max_depth": [5, None], "min_samples_leaf": [1, 4], "n_estimators": [100]}


def search(model, param_grid, **settings):
    """The grid search that its attackers call, with fewer settings of the forest."""
    return GridSearchCV(model, FOREST if "max_depth" in param_grid else param_grid, **settings)


def input_of(halves, members, nonmembers, as_logits=False):
    """Its description of what is known about members and non-members.

    It computes entropies of logits only, and takes rows that sum to 1 for probabilities.
    """
    kind = "logits" if as_logits else "probs"
    return AttackInputData(
        **{
            f"{kind}_train": halves[members + "_scores"],
            f"{kind}_test": halves[nonmembers + "_scores"],
        },
        labels_train=halves[members + "_y"],
        labels_test=halves[nonmembers + "_y"],
    )


def threshold_answers(halves, kind):
    """Negative losses or entropies of held-out records, and the known halves' best threshold."""
    entropy = kind is AttackType.THRESHOLD_ENTROPY_ATTACK
    known, held = (
        mia.run_attacks(
            input_of(halves, f"{which}_members", f"{which}_nonmembers", entropy),
            attack_types=(kind,),
        ).single_attack_results[0]
        for which in ("known", "held")
    )
    best = np.argmax(known.roc_curve.tpr - known.roc_curve.fpr)
    scores = held.membership_scores_train, held.membership_scores_test
    return np.concatenate(scores), -known.roc_curve.thresholds[best]


def trained_answers(halves, kind):
    """What a trained attacker says of held-out records; it says member above a half."""
    known, held = (
        models.create_attacker_data(
            input_of(halves, f"{which}_members", f"{which}_nonmembers"), balance=which == "known"
        )
        for which in ("known", "held")
    )
    attacker = models.create_attacker(kind)
    rows = known.fold_indices
    attacker.train_model(known.features_all[rows], known.labels_all[rows])
    return attacker.predict(held.features_all), np.nextafter(0.5, 1)


def main(scores, answers, seed):
    """Every attack, one after another."""
    halves, found = dict(np.load(scores)), {}
    models.model_selection.GridSearchCV = search
    for kind in AttackType:
        np.random.seed(int(seed))
        answer = threshold_answers if kind in THRESHOLDS else trained_answers
        found[kind.value], found[kind.value + " line"] = answer(halves, kind)
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
