"""Assignment 2 as others would do it."""

from submissions import Submission

SUBMISSIONS = {
    "another_way": Submission(
        {  # loops where the solution has tables, PyTorch where it has scikit-learn
            "halves": (
                """
import random

def halves(n, count, seed):
    deck, rows = random.Random(seed), []
    while len(rows) < count:
        chosen = set(deck.sample(range(n), n // 2))
        rows.append([i in chosen for i in range(n)])
        rows.append([i not in chosen for i in range(n)])
    return rows
"""
            ),
            "attack_set": (
                """
def attack_set(shadows, x, inside):
    features, is_member, said = [], [], [shadow(x) for shadow in shadows]
    for i in range(inside.shape[1]):
        for number, scores in enumerate(said):
            features.append(sorted(scores[i].tolist(), reverse=True)[:3])
            is_member.append(1. if inside[number, i] else 0.)
    return np.array(features), np.array(is_member)
"""
            ),
            "train_attack": (
                """
import torch

def train_attack(features, is_member, seed):
    torch.manual_seed(seed)
    read = lambda f: torch.log(torch.tensor(np.array(f), dtype=torch.float32).clamp_min(1e-20))
    centre, scale = read(features).mean(0), read(features).std(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    optimiser, truth = torch.optim.Adam(network.parameters(), 1e-2), torch.tensor(np.array(is_member), dtype=torch.float32)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network((read(features) - centre) / scale)[:, 0], truth)
        optimiser.zero_grad(); loss.backward(); optimiser.step()
    def attack(later):
        with torch.no_grad(): return network((read(later) - centre) / scale)[:, 0].numpy()
    return attack
"""
            ),
            "diagnose": (
                """
def diagnose(attack, planted, known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    def said(parts): return [np.asarray(attack(parts[0], parts[1], part)) for part in parts[2:]]
    def worth(yes, no): return yes.sum() / len(yes) / 2 + (len(no) - no.sum()) / len(no) / 2
    with_leak, without = worth(*said(planted(.8, 5))), worth(*said(planted(.5, 6)))
    if with_leak < .7 or without < .45 or without > .55:
        return "bug"
    n, m = len(heldout_members), len(heldout_nonmembers)
    if worth(*said([known_members, known_nonmembers, heldout_members, heldout_nonmembers])) - .5 > (1 / (4 * n) + 1 / (4 * m)) ** .5:
        return "leaks"
    return "no leak found"
"""
            ),
            "calibrated": (
                """
def calibrated(phi, shadow_phi, outside):
    everyone, values = np.mean([s for row, out in zip(shadow_phi, outside) for s, o in zip(row, out) if o]), []
    for i, mine in enumerate(phi):
        others = [shadow_phi[j, i] for j in range(len(shadow_phi)) if outside[j, i]]
        values.append(mine - (sum(others) / len(others) if others else everyone))
    return values
"""
            ),
        }
    ),
    "each_for_itself": Submission(
        {
            "halves": (
                """
def halves(n, count, seed):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) < n // 2 for _ in range(count)])
"""
            )
        },
        {"test_halves": 10},
        "some record is inside for",
    ),
    "generator_in_the_loop": Submission(
        {
            "halves": (
                """
def halves(n, count, seed):
    rows = []
    for _ in range(count // 2):
        half = np.random.default_rng(seed).permutation(n) < n // 2
        rows += [half, ~half]
    return np.array(rows)
"""
            )
        },
        {"test_halves": 10},
        "all pairs have the same halves",
    ),
    "flipped": Submission(
        {
            "attack_set": (
                """
def attack_set(shadows, x, inside):
    features = [np.sort(shadow(x), axis=1)[:, ::-1][:, :3] for shadow in shadows]
    return np.concatenate(features), (~inside).astype(int).ravel()
"""
            ),
            "train_attack": (
                """
def train_attack(features, is_member, seed):
    from sklearn.ensemble import RandomForestClassifier
    forest = RandomForestClassifier(60, min_samples_leaf=20, random_state=seed).fit(features, is_member)
    return lambda later: forest.predict_proba(later)[:, 0]
"""
            ),
        },
        {"test_attack_set": 10, "test_train_attack": 10},
        ("other way round: inside is member", "other way round: AUC"),
    ),
    "one_cut_only": Submission(
        {
            "train_attack": (
                """
def train_attack(features, is_member, seed):
    from sklearn.linear_model import LogisticRegression
    logs = lambda f: np.log(np.clip(f, 1e-12, 1))
    model = LogisticRegression().fit(logs(features), is_member)
    return lambda later: model.decision_function(logs(later))
"""
            ),
            "attack_set": (
                """
def attack_set(shadows, x, inside):
    return np.concatenate([shadow(x)[:, :3] for shadow in shadows]), inside.astype(int).ravel()
"""
            ),
        },
        {"test_train_attack": 10, "test_attack_set": 10},
        ("finds some of the planted leak|no more than a coin", "not the three largest scores"),
    ),
    "no_planted_leak": Submission(
        {
            "diagnose": (
                """
def diagnose(attack, planted, known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    accuracy = lambda a, b, c, d: (np.mean(attack(a, b, c)) + np.mean(~attack(a, b, d))) / 2
    if abs(accuracy(*planted(.5, 1)) - .5) > .05: return "bug"
    error = np.sqrt(1 / (4 * len(heldout_members)) + 1 / (4 * len(heldout_nonmembers))) / 2
    return "leaks" if accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers) > .5 + 2 * error else "no leak found"
"""
            )
        },
        {"test_diagnose": 10},
        "an attack that was turned round",
    ),
    "any_number_above_a_half": Submission(
        {
            "diagnose": (
                """
def diagnose(attack, planted, known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    accuracy = lambda a, b, c, d: (np.mean(attack(a, b, c)) + np.mean(~attack(a, b, d))) / 2
    if accuracy(*planted(.8, 0)) < .7 or abs(accuracy(*planted(.5, 1)) - .5) > .05: return "bug"
    return "leaks" if accuracy(known_members, known_nonmembers, heldout_members, heldout_nonmembers) > .51 else "no leak found"
"""
            ),
            "calibrated": (
                """
def calibrated(phi, shadow_phi, outside):
    return phi - shadow_phi.mean(0)
"""
            ),
        },
        {"test_diagnose": 10, "test_calibrated": 10},
        ("is no leak, one standard error", "shadows that saw the record are in your mean"),
    ),
    "measured_where_trained": Submission(
        {
            "diagnose": (
                """
def diagnose(attack, planted, known_members, known_nonmembers, heldout_members, heldout_nonmembers):
    accuracy = lambda a, b: (np.mean(attack(a, b, a)) + np.mean(~attack(a, b, b))) / 2
    if accuracy(*planted(.8, 0)[:2]) < .7 or abs(accuracy(*planted(.5, 1)[:2]) - .5) > .05: return "bug"
    error = np.sqrt(1 / (4 * len(known_members)) + 1 / (4 * len(known_nonmembers))) / 2
    return "leaks" if accuracy(known_members, known_nonmembers) > .5 + 2 * error else "no leak found"
"""
            ),
            "calibrated": (
                """
def calibrated(phi, shadow_phi, outside):
    return phi - np.where(outside, shadow_phi, 0).sum(0) / outside.sum(0)
"""
            ),
        },
        {"test_diagnose": 10, "test_calibrated": 10},
        ("knows its known members by heart", "NaN or infinity for a record"),
    ),
}
