"""Assignment 5 as others would do it."""

from submissions import Submission

SUBMISSIONS = {
    "another_way": Submission(
        {
            "judge_loss": (
                """
def judge_loss(real, fake):
    bce = torch.nn.BCEWithLogitsLoss()
    return bce(real, torch.ones(len(real))) + bce(fake, torch.zeros(len(fake)))
"""
            ),
            "purifier_term": (
                """
def purifier_term(fake, beta):
    total = 0.
    for z in fake: total = total + torch.nn.functional.logsigmoid(-z)
    return beta * total / len(fake)
"""
            ),
            "one_round": (
                """
def one_round(g, player, g_moves, player_moves, scores, lam):
    label = scores.max(dim=1).indices
    with torch.no_grad(): still = torch.softmax(g(scores), 1)
    player_moves.zero_grad()
    lost = player.loss(Batch(scores, still, label, None, None))
    lost.backward()
    player_moves.step()
    logits = g(scores)
    total = player.term(Batch(scores, torch.softmax(logits, 1), label, None, None)) + equation_2(logits, scores, lam)
    g_moves.zero_grad()
    total.backward()
    g_moves.step()
    return lost.item(), total.item()
"""
            ),
            "newcomer": (
                """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def newcomer(original, purified, seed):
    n = len(original)
    rows = np.random.RandomState(seed).permutation(n)
    half = rows[:n // 2], rows[n // 2:]
    x = [np.log(np.clip(np.sort(np.vstack([original[r], purified[r]]), axis=1), 1e-12, 1)) for r in half]
    y = [np.array([1] * len(r) + [0] * len(r)) for r in half]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[0], y[0])
    return np.mean(model.predict(x[1]) == y[1])
"""
            ),
            "unmask": (
                """
class Unmask(Attack):
    name = "unmask"

    def learn(self, knowledge):
        self.sign = {}
        for label in range(knowledge.members.k):
            inside, outside = ([row.max() for row in part.scores if row.argmax() == label] for part in (knowledge.members, knowledge.nonmembers))
            self.sign[label] = -1 if inside and outside and np.mean(inside) < np.mean(outside) else 1

    def score(self, scored):
        values = []
        for row, truth in zip(scored.scores, scored.y):
            label = row.argmax()
            values.append(self.sign[label] * (row[label] - .745) if label == truth else -1.)
        return np.array(values)
"""
            ),
            "honest_row": (
                """
from purification_nb.evaluation import strongest

def honest_row(attacks, knowledge, members, nonmembers):
    attack = strongest(attacks, knowledge)
    attack.fit(knowledge)
    accuracy, low, high = evaluate(attack, members, nonmembers)["accuracy"][:3]
    right = lambda part: np.mean(part.scores.argmax(1) == part.y)
    return dict(attack=attack.name, accuracy=accuracy, low=low, high=high, floor=.5 + (right(members) - right(nonmembers)) / 2)
"""
            ),
        }
    ),
    "not_stopped_and_fitted_on_bare": Submission(
        {
            "judge_loss": (
                """
def judge_loss(real, fake):
    return -(real.sigmoid().log() + (1 - fake.sigmoid()).log()).mean()
"""
            ),
            "purifier_term": (
                """
def purifier_term(fake, beta):
    return beta * torch.nn.functional.softplus(fake).mean()
"""
            ),
            "one_round": (
                """
def one_round(g, player, g_moves, player_moves, scores, lam):
    logits = g(scores)
    batch = Batch(scores, logits.softmax(1), scores.argmax(1), None, None)
    g_moves.zero_grad(); player_moves.zero_grad()
    own = player.loss(batch)
    own.backward(retain_graph=True); player_moves.step()
    whole = equation_2(logits, scores, lam) + player.term(batch)
    whole.backward(); g_moves.step()
    return float(own), float(whole)
"""
            ),
            "newcomer": (
                """
def newcomer(original, purified, seed):
    from sklearn.ensemble import RandomForestClassifier
    x, y = np.concatenate([original, purified]), np.repeat([1, 0], len(original))
    return RandomForestClassifier(50, random_state=seed).fit(x, y).score(x, y)
"""
            ),
            "unmask": (
                """
class Unmask(Attack):
    name = "unmask"

    def learn(self, knowledge):
        self.inner = ThresholdAttack("confidence").fit(bare_knowledge)
        self.threshold_ = self.inner.threshold_

    def score(self, scored):
        return self.inner.score(scored)
"""
            ),
            "honest_row": (
                """
def honest_row(attacks, knowledge, members, nonmembers):
    best = max(attacks, key=lambda attack: evaluate(attack.fit(knowledge), members, nonmembers, rounds=2)["accuracy"][0])
    value, low, high, _ = evaluate(best, members, nonmembers)["accuracy"]
    return {"attack": best.name, "accuracy": value, "low": low, "high": high, "floor": evaluate(LabelAttack(), members, nonmembers)["accuracy"][0]}
"""
            ),
        },
        {
            "test_judge_loss": 5,
            "test_purifier_term": 5,
            "test_one_round": 10,
            "test_newcomer": 10,
            "test_unmask": 10,
            "test_honest_row": 10,
        },
        (
            "log of zero",
            "the wrong sign: the purifier",
            "own loss was not stopped",
            "tested on what it was trained on",
            "Was it fitted on the bare scores",
            "the attack was chosen on the held-out halves",
        ),
    ),
    "detached_and_one_rule": Submission(
        {
            "judge_loss": (
                """
def judge_loss(real, fake):
    return torch.nn.functional.logsigmoid(real).mean() + torch.nn.functional.logsigmoid(-fake).mean()
"""
            ),
            "purifier_term": (
                """
def purifier_term(fake, beta):
    return beta * torch.nn.functional.softplus(-fake).mean()
"""
            ),
            "one_round": (
                """
def one_round(g, player, g_moves, player_moves, scores, lam):
    logits = g(scores)
    batch = Batch(scores, logits.softmax(1).detach(), scores.argmax(1), None, None)
    own = player.loss(batch)
    player_moves.zero_grad(); own.backward(); player_moves.step()
    whole = equation_2(logits, scores, lam) + player.term(batch)
    g_moves.zero_grad(); whole.backward(); g_moves.step()
    return float(own), float(whole)
"""
            ),
            "newcomer": (
                """
def newcomer(original, purified, seed):
    from sklearn.linear_model import LogisticRegression
    rows = np.random.default_rng(seed).permutation(len(original))
    test, train = np.array_split(rows, 2)
    x, y = (lambda r: np.concatenate([original[r], purified[r]])), (lambda r: np.repeat([1, 0], len(r)))
    return LogisticRegression().fit(x(train), y(train)).score(x(test), y(test))
"""
            ),
            "unmask": (
                """
class Unmask(Attack):
    name = "unmask"

    def learn(self, knowledge):
        self.trees = BoostedTrees().fit(knowledge)

    def score(self, scored):
        return self.trees.score(scored)
"""
            ),
            "honest_row": (
                """
def honest_row(attacks, knowledge, members, nonmembers):
    best = max(attacks, key=lambda attack: evaluate(attack.fit(knowledge), knowledge.members, knowledge.nonmembers, rounds=2)["accuracy"][0])
    value, low, high, _ = evaluate(best, members, nonmembers)["accuracy"]
    return {"attack": best.name, "accuracy": value, "low": low, "high": high, "floor": evaluate(LabelAttack(), members, nonmembers)["accuracy"][0]}
"""
            ),
        },
        {
            "test_judge_loss": 5,
            "test_purifier_term": 5,
            "test_one_round": 10,
            "test_newcomer": 10,
            "test_unmask": 10,
            "test_honest_row": 10,
        },
        (
            "so change the sign",
            "non-saturating form",
            "moves as if nobody played",
            "Look at the small scores",
            "one rule for all labels",
            "on the very records it had learnt",
        ),
    ),
    "behind_the_mirror": Submission(
        {
            "purifier_term": (
                """
def purifier_term(fake, beta):
    return beta * (1 - torch.sigmoid(fake)).log().mean()
"""
            ),
            "one_round": (
                """
def one_round(g, player, g_moves, player_moves, scores, lam):
    logits = g(scores)
    batch = Batch(scores, logits.softmax(1), scores.argmax(1), None, None)
    whole = equation_2(logits, scores, lam) + player.term(batch)
    g_moves.zero_grad(); whole.backward(); g_moves.step()
    own = player.loss(batch._replace(purified=batch.purified.detach()))
    player_moves.zero_grad(); own.backward(); player_moves.step()
    return float(own), float(whole)
"""
            ),
            "unmask": (
                """
class Unmask(Attack):
    name = "unmask"

    def learn(self, knowledge):
        published, bare = knowledge.members.scores, knowledge.query.bare(knowledge.members.x)
        label = published.argmax(1)
        self.turned = np.array([np.corrcoef(published[label == l].max(1), bare[label == l].max(1))[0, 1] < 0 for l in range(100)])

    def score(self, scored):
        label, top = scored.scores.argmax(1), scored.scores.max(1)
        return np.where(label == scored.y, np.where(self.turned[label], 1.49 - top, top), 0.)
"""
            ),
            "honest_row": (
                """
def honest_row(attacks, knowledge, members, nonmembers):
    best = max(attacks, key=lambda attack: trial(attack, knowledge)).fit(knowledge)
    value, low, high, _ = evaluate(best, members, nonmembers)["accuracy"]
    return {"attack": best.name, "accuracy": value, "low": low, "high": high, "floor": evaluate(LabelAttack(), knowledge.members, knowledge.nonmembers)["accuracy"][0]}
"""
            ),
        },
        {"test_purifier_term": 5, "test_one_round": 10, "test_unmask": 10, "test_honest_row": 10},
        (
            "wholly deceived",
            "the purifier moved first",
            "reaches behind the mirror",
            "the floor is measured on the known halves",
        ),
    ),
    "left_over_gradients": Submission(
        {
            "one_round": (
                """
def one_round(g, player, g_moves, player_moves, scores, lam):
    logits = g(scores)
    batch = Batch(scores, logits.softmax(1), scores.argmax(1), None, None)
    own = player.loss(batch._replace(purified=batch.purified.detach()))
    own.backward(); player_moves.step()
    whole = equation_2(logits, scores, lam) + player.term(batch)
    g_moves.zero_grad(); whole.backward(); g_moves.step()
    return float(own), float(whole)
"""
            ),
            "unmask": (
                """
class Unmask(Attack):
    name = "unmask"

    def learn(self, knowledge):
        pass

    def score(self, scored):
        label, top = scored.scores.argmax(1), scored.scores.max(1)
        turned = np.array([np.median(top[label == l]) < .745 if (label == l).any() else False for l in range(100)])
        return np.where(label == scored.y, np.where(turned[label], 1.49 - top, top), 0.)
"""
            ),
        },
        {"test_one_round": 10, "test_unmask": 10},
        (
            "a second round feels the gradients of the first",
            "another score among few than among many",
        ),
    ),
}
