"""Assignment 3 as others would do it."""

from submissions import Submission

SUBMISSIONS = {
    "another_way": Submission(
        {  # loops where the solution has tables, scikit-learn where it has PyTorch
            "truncate": (
                """
def truncate(scores, m):
    rows = []
    for row in scores.tolist():
        order = sorted(range(len(row)), key=row.__getitem__)
        hidden = order[:len(row) - m]
        for c in hidden: row[c] = 0.
        left = 1 - sum(row)
        for c in hidden: row[c] = left / len(hidden)
        rows.append(row)
    return np.array(rows)
"""
            ),
            "make_reader": (
                """
from sklearn.preprocessing import StandardScaler

def make_reader(auxiliary_scores):
    scaler = StandardScaler().fit(np.log(auxiliary_scores + 1e-15))
    def read(scores): return scaler.transform(np.log(np.maximum(scores, 1e-15)))
    return read
"""
            ),
            "train_inverter": (
                """
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

def train_inverter(scores, x, seed):
    "Linear in the logarithms: coarse, and still far better than the label."
    model = make_pipeline(FunctionTransformer(lambda s: np.log(np.clip(s, 1e-20, 1))), StandardScaler(), Ridge(100.))
    model.fit(scores, x.reshape(len(x), -1))
    return lambda later: model.predict(later).reshape(-1, *x.shape[1:])
"""
            ),
            "label_only": (
                """
def label_only(scored):
    rows = []
    for row in scored.scores: rows.append([int(c == np.argmax(row)) for c in range(len(row))])
    return np.array(rows, float)
"""
            ),
            "measure": (
                """
def measure(train, auxiliary, heldout):
    invert, errors = train(auxiliary.scores, auxiliary.x, 0), []
    for drawing, record in zip(invert(heldout.scores), heldout.x):
        errors.append(np.square(np.ravel(drawing) - np.ravel(record)).sum() / record.size)
    return sum(errors) / len(errors)
"""
            ),
            "reidentified": (
                """
from scipy.spatial.distance import cdist

def reidentified(drawings, x):
    hits = 0
    for i, row in enumerate(cdist(np.reshape(drawings, (len(x), -1)), np.reshape(x, (len(x), -1)))):
        hits += row[i] <= row.min()
    return hits / len(x)
"""
            ),
        }
    ),
    "a_network": Submission(
        {
            "train_inverter": (
                """
import torch

def train_inverter(scores, x, seed):
    torch.manual_seed(seed)
    logs = lambda s: torch.tensor(np.log(np.maximum(s, 1e-15)), dtype=torch.float32)
    shape, inputs, pictures = x.shape[1:], logs(scores), torch.tensor(x).flatten(1)
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-5
    network = torch.nn.Sequential(torch.nn.Linear(inputs.shape[1], 256), torch.nn.ReLU(), torch.nn.Linear(256, pictures.shape[1]), torch.nn.Sigmoid())
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for epoch in range(25):
        for rows in torch.randperm(len(pictures)).split(64):
            loss = ((network((inputs[rows] - mean) / spread) - pictures[rows]) ** 2).mean()
            optimiser.zero_grad(); loss.backward(); optimiser.step()
    def draw(later):
        with torch.no_grad(): return network((logs(later) - mean) / spread).numpy().reshape(-1, *shape)
    return draw
"""
            )
        }
    ),
    "hidden_scores_gone": Submission(
        {
            "truncate": (
                """
def truncate(scores, m):
    edge = np.sort(scores, 1)[:, -m][:, None]
    return np.where(scores >= edge, scores, 0)
"""
            ),
            "make_reader": (
                """
def make_reader(auxiliary_scores):
    mean, spread = np.log(auxiliary_scores).mean(0), np.log(auxiliary_scores).std(0)
    return lambda scores: (np.log(scores) - mean) / spread
"""
            ),
            "measure": (
                """
def measure(train, auxiliary, heldout):
    drawn = train(auxiliary.scores, auxiliary.x, 0)(auxiliary.scores)
    return ((drawn - auxiliary.x) ** 2).mean()
"""
            ),
        },
        {"test_truncate": 10, "test_make_reader": 10, "test_measure": 10},
        ("hidden scores became zero", "log of zero", "measured on the records it was trained on"),
    ),
    "raw_scores": Submission(
        {
            "train_inverter": (
                """
def train_inverter(scores, x, seed):
    from purification_nb.networks import mlp_decoder
    from purification_nb.training import adam, fit, minimise, seeded
    import torch
    with seeded(seed): decoder = mlp_decoder(scores.shape[1], x.shape[1:])
    fit(decoder, minimise(lambda s, x: ((decoder(s) - x) ** 2).mean(), adam(decoder)), (scores.astype(np.float32), x), epochs=20, seed=seed, device="cpu")
    return lambda later: decoder(torch.tensor(later, dtype=torch.float32)).detach().numpy()
"""
            ),
            "label_only": (
                """
def label_only(scored):
    return np.eye(scored.scores.shape[1])[scored.y]
"""
            ),
            "reidentified": (
                """
def reidentified(drawings, x):
    flat = x.reshape(len(x), -1)
    return (((flat[:, None] - flat[None]) ** 2).sum(-1).argmin(1) == np.arange(len(x))).mean()
"""
            ),
        },
        {"test_train_inverter": 10, "test_label_only": 10, "test_reidentified": 10},
        (
            "no better than the label alone",
            "the ground truth instead of the prediction",
            "whatever is drawn",
        ),
    ),
    "shuffled_apart": Submission(
        {
            "train_inverter": (
                """
def train_inverter(scores, x, seed):
    from sklearn.linear_model import Ridge
    rng = np.random.default_rng(seed)
    model = Ridge(1.).fit(np.log(np.clip(scores, 1e-20, 1)), x.reshape(len(x), -1)[rng.permutation(len(x))])
    return lambda later: model.predict(np.log(np.clip(later, 1e-20, 1))).reshape(-1, *x.shape[1:])
"""
            ),
            "make_reader": (
                """
def make_reader(auxiliary_scores):
    logs = lambda scores: np.log(np.clip(scores, 1e-30, 1))
    return lambda scores: (logs(scores) - logs(scores).mean(0)) / (logs(scores).std(0) + 1e-6)
"""
            ),
            "truncate": (
                """
def truncate(scores, m):
    hidden = np.argsort(-scores, axis=1)[:, m:]
    for row, places in zip(scores, hidden): row[places] = row[places].mean() if len(places) else 0
    return scores
"""
            ),
        },
        {"test_train_inverter": 10, "test_make_reader": 10, "test_truncate": 10},
        (
            "no better than the mean image",
            "otherwise than among others",
            "you changed the scores you were given",
        ),
    ),
    "trained_on_what_it_is_asked": Submission(
        {
            "measure": (
                """
def measure(train, auxiliary, heldout):
    drawn = train(heldout.scores, heldout.x, 0)(heldout.scores)
    return ((drawn - heldout.x) ** 2).mean()
"""
            ),
            "reidentified": (
                """
def reidentified(drawings, x):
    drawn, flat = drawings.reshape(len(x), -1), x.reshape(len(x), -1)
    return (((flat[:, None] - drawn[None]) ** 2).sum(-1).argmin(1) == np.arange(len(x))).mean()
"""
            ),
        },
        {"test_measure": 10, "test_reidentified": 10},
        ("trained on the held-out records", "not each record a drawing"),
    ),
}
