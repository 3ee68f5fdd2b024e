"""Assignment 4 as others would do it."""

from submissions import Submission

SUBMISSIONS = {
    "another_way": Submission(
        {  # loops, sums and logarithms where the solution has torch's own functions
            "purifier_loss": (
                """
def purifier_loss(logits, scores, lam):
    log_p = torch.log_softmax(logits, dim=1)
    losses = []
    for row, s in zip(log_p, scores):
        losses.append((row.exp() - s).square().sum() / len(s) - lam * row[s.argmax()])
    return torch.stack(losses).mean()
"""
            ),
            "purifier_gradient": (
                """
def purifier_gradient(logits, scores, lam):
    n, k = logits.shape
    rows = []
    for z, s in zip(logits, scores):
        p = torch.exp(z - z.max()); p = p / p.sum()
        jacobian = torch.diag(p) - torch.outer(p, p)
        label = torch.zeros(k); label[s.argmax()] = 1
        rows.append(jacobian @ (2 * (p - s) / k) + lam * (p - label))
    return torch.stack(rows) / n
"""
            ),
            "make_purifier": (
                """
from torch.utils.data import DataLoader, TensorDataset

def make_purifier(service, split, lam, seed):
    answers = service.answer(split.d2).scores.astype("float32")
    with seeded(seed):
        g = torch.nn.Sequential(mlp(purifier_sizes(service.k), batch_norm=True), torch.nn.Softmax(1))
        moves = torch.optim.Adam(g.parameters(), lr=.01)
        for epoch in range(30):
            for s, in DataLoader(TensorDataset(torch.from_numpy(answers)), batch_size=100, shuffle=True):
                p = g(s)
                loss = ((p - s) ** 2).mean() - lam * torch.log(p[torch.arange(len(s)), s.argmax(1)] + 1e-12).mean()
                moves.zero_grad(); loss.backward(); moves.step()
    def purify(scores):
        g.eval()
        return g(torch.as_tensor(scores, dtype=torch.float32)).detach().numpy().astype(float)
    return purify
"""
            ),
            "keep_label": (
                """
def keep_label(purified, scored):
    kept = []
    for row, s in zip(purified.tolist(), scored.scores.tolist()):
        top, label = row.index(max(row)), s.index(max(s))
        row[top], row[label] = row[label], row[top]
        kept.append(row)
    return np.array(kept)
"""
            ),
            "dispersion": (
                """
def dispersion(scores):
    frame = pd.DataFrame(scores)
    away = frame - frame.groupby(scores.argmax(1)).transform("mean")
    return float(np.sqrt((away ** 2).values.sum() / len(frame)))
"""
            ),
            "distortion": (
                """
def distortion(before, after):
    return [sum(abs(a - b) for a, b in zip(one, other)) for one, other in zip(before, after)]
"""
            ),
            "measure": (
                """
import copy
from purification_nb.evaluation import evaluate

def measure(attack, split, bare, published):
    def found(attack, service):
        return evaluate(attack, service.answer(split.heldout_members), service.answer(split.heldout_nonmembers), rounds=10)["accuracy"][0]
    naive, adaptive = (copy.deepcopy(attack).fit(knowledge_of(split, service)) for service in (bare, published))
    return {"adaptive": found(adaptive, published), "naive": found(naive, published), "bare": found(naive, bare), "floor": found(LabelAttack(), bare)}
"""
            ),
        }
    ),
    "sums_members_truth": Submission(
        {
            "purifier_loss": (
                """
def purifier_loss(logits, scores, lam):
    return ((logits.softmax(1) - scores)**2).sum(1).mean() + lam * torch.nn.functional.cross_entropy(logits, scores.argmax(1))
"""
            ),
            "purifier_gradient": (
                """
def purifier_gradient(logits, scores, lam):
    (n, k), p = logits.shape, logits.softmax(1)
    return (2 / k * (p - scores) + lam * (p - torch.nn.functional.one_hot(scores.argmax(1), k))) / n
"""
            ),
            "make_purifier": (
                """
def make_purifier(service, split, lam, seed):
    scores = torch.tensor(service(split.d1.x), dtype=torch.float32)
    with seeded(seed):
        g = mlp(purifier_sizes(service.k), batch_norm=True)
        moves = adam(g, 1e-2)
        for epoch in range(20):
            for rows in torch.randperm(len(scores)).split(128):
                moves.zero_grad(); equation_2(g(scores[rows]), scores[rows], lam).backward(); moves.step()
    g.eval()
    return lambda scores: g(torch.tensor(scores, dtype=torch.float32)).softmax(1).detach().numpy()
"""
            ),
            "keep_label": (
                """
def keep_label(purified, scored):
    kept, rows = purified.copy(), np.arange(len(purified))
    label, top = scored.y, purified.argmax(1)
    kept[rows, label], kept[rows, top] = purified[rows, top], purified[rows, label]
    return kept
"""
            ),
            "dispersion": (
                """
def dispersion(scores):
    return np.sqrt(((scores - scores.mean(0))**2).sum(1).mean())
"""
            ),
            "distortion": (
                """
def distortion(before, after):
    return np.abs(after - before).mean(1)
"""
            ),
            "measure": (
                """
def measure(attack, split, bare, published):
    from purification_nb.adversary import Knowledge
    def accuracy(attack, service, fitted):
        held = [service.answer(part) for part in (split.heldout_members, split.heldout_nonmembers)]
        if fitted: attack.fit(Knowledge(*[fitted.answer(part) for part in (split.heldout_members, split.heldout_nonmembers)]))
        return (attack.predict(held[0]).mean() + 1 - attack.predict(held[1]).mean()) / 2
    return {"floor": accuracy(LabelAttack(), bare, None), "bare": accuracy(attack, bare, bare), "naive": accuracy(attack, published, bare), "adaptive": accuracy(attack, published, published)}
"""
            ),
        },
        {
            "test_purifier_loss": 10,
            "test_purifier_gradient": 10,
            "test_make_purifier": 10,
            "test_keep_label": 10,
            "test_dispersion": 5,
            "test_distortion": 5,
            "test_measure": 10,
        },
        (
            "R is a sum over the classes",
            "a step through the softmax is missing",
            "changes when D1 changes: it was trained on members",
            "taken from the ground truth",
            "from the mean of all records",
            "the mean over the classes: the L1 distance",
            "chosen on the held-out halves",
        ),
    ),
    "signs_and_batches": Submission(
        {
            "purifier_loss": (
                """
def purifier_loss(logits, scores, lam):
    return ((logits.softmax(1) - scores)**2).mean() - lam * torch.nn.functional.cross_entropy(logits, scores.argmax(1))
"""
            ),
            "purifier_gradient": (
                """
def purifier_gradient(logits, scores, lam):
    z = logits.clone().requires_grad_()
    equation_2(z, scores, lam).backward()
    return z.grad
"""
            ),
            "make_purifier": (
                """
def make_purifier(service, split, lam, seed):
    scores = torch.tensor(service(split.d2.x), dtype=torch.float32)
    with seeded(seed):
        g = mlp(purifier_sizes(service.k), batch_norm=True)
        moves = adam(g, 1e-2)
        for epoch in range(20):
            for rows in torch.randperm(len(scores)).split(128):
                moves.zero_grad(); equation_2(g(scores[rows]), scores[rows], lam).backward(); moves.step()
    return lambda scores: g(torch.tensor(scores, dtype=torch.float32)).softmax(1).detach().numpy()
"""
            ),
            "keep_label": (
                """
def keep_label(purified, scored):
    kept, label = purified.copy(), scored.scores.argmax(1)
    kept[np.arange(len(kept)), label] = kept.max(1) + .01
    return kept / kept.sum(1, keepdims=True)
"""
            ),
            "measure": (
                """
def measure(attack, split, bare, published):
    def accuracy(attack, service):
        inside, outside = (attack.predict(service.answer(part)) for part in (split.heldout_members, split.heldout_nonmembers))
        return (inside.mean() + 1 - outside.mean()) / 2
    naive, adaptive = (attack.fit(knowledge_of(split, service)) for service in (bare, published))
    return {"floor": accuracy(LabelAttack(), bare), "bare": accuracy(naive, bare), "naive": accuracy(naive, published), "adaptive": accuracy(adaptive, published)}
"""
            ),
        },
        {
            "test_purifier_loss": 10,
            "test_purifier_gradient": 10,
            "test_make_purifier": 10,
            "test_keep_label": 10,
            "test_measure": 10,
        },
        (
            "the wrong sign of lambda",
            "autograd is switched off",
            "call eval",
            "numbers have changed",
            "naive and adaptive are the same",
        ),
    ),
    "log_of_zero_and_no_seed": Submission(
        {
            "purifier_loss": (
                """
def purifier_loss(logits, scores, lam):
    p = logits.softmax(1)
    return ((p - scores)**2).mean() - lam * p[torch.arange(len(p)), scores.argmax(1)].log().mean()
"""
            ),
            "make_purifier": (
                """
def make_purifier(service, split, lam, seed):
    scores = torch.tensor(service(split.d2.x), dtype=torch.float32)
    g = mlp(purifier_sizes(service.k), batch_norm=True)
    moves = adam(g, 1e-2)
    for epoch in range(20):
        for rows in torch.randperm(len(scores)).split(128):
            moves.zero_grad(); equation_2(g(scores[rows]), scores[rows], lam).backward(); moves.step()
    g.eval()
    return lambda scores: g(torch.tensor(scores, dtype=torch.float32)).softmax(1).detach().numpy()
"""
            ),
            "keep_label": (
                """
def keep_label(purified, scored):
    rows, label, top = np.arange(len(purified)), scored.scores.argmax(1), purified.argmax(1)
    purified[rows, label], purified[rows, top] = purified[rows, top], purified[rows, label]
    return purified
"""
            ),
            "distortion": (
                """
def distortion(before, after):
    return np.linalg.norm(after - before, axis=1)
"""
            ),
        },
        {
            "test_purifier_loss": 10,
            "test_make_purifier": 10,
            "test_keep_label": 10,
            "test_distortion": 5,
        },
        (
            "log of zero",
            "the same seed gives another purifier",
            "changes the scores it was handed",
            "that is L2",
        ),
    ),
    "true_labels_and_all_records": Submission(
        {
            "make_purifier": (
                """
def make_purifier(service, split, lam, seed):
    scores, y = torch.tensor(service(split.d2.x), dtype=torch.float32), torch.tensor(split.d2.y)
    with seeded(seed):
        g = mlp(purifier_sizes(service.k), batch_norm=True)
        moves = adam(g, 1e-2)
        for epoch in range(20):
            for rows in torch.randperm(len(scores)).split(128):
                logits = g(scores[rows])
                loss = ((logits.softmax(1) - scores[rows])**2).mean() + lam * torch.nn.functional.cross_entropy(logits, y[rows])
                moves.zero_grad(); loss.backward(); moves.step()
    g.eval()
    return lambda scores: g(torch.tensor(scores, dtype=torch.float32)).softmax(1).detach().numpy()
"""
            ),
            "measure": (
                """
def measure(attack, split, bare, published):
    def accuracy(attack, service):
        inside, outside = (attack.predict(service.answer(part)) for part in (split.known_members, split.known_nonmembers))
        return (inside.mean() + 1 - outside.mean()) / 2
    found = {"floor": accuracy(LabelAttack(), bare)}
    attack.fit(knowledge_of(split, bare))
    found |= {"bare": accuracy(attack, bare), "naive": accuracy(attack, published)}
    return found | {"adaptive": accuracy(attack.fit(knowledge_of(split, published)), published)}
"""
            ),
        },
        {"test_make_purifier": 10, "test_measure": 10},
        ("when the true labels of D2 change", "on the known halves"),
    ),
}
