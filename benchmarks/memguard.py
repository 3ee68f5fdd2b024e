"""MemGuard one record after another and batched, and a purifier, on the same 2,000 answers in one
run; prints and saves CPU seconds and ratios."""

import json
import statistics
import time
from dataclasses import replace

import numpy as np

from conditions import one_core, save
from purification_nb.defences.memguard import MemGuard, noise_for_many, noise_for_one
from purification_nb.defences.purifier import PurifierDefence
from purification_nb.service import Recipe
from purification_nb.splits import digit_pairs
from purification_nb.targets import MLPTarget

# of what takes milliseconds or seconds; the walk of one record after another is taken once, over
# all records
ROUNDS = 5


def spent(call):
    """CPU seconds of one call, and what it returned."""
    start = time.process_time()
    answer = call()
    return time.process_time() - start, answer


def main():
    """Measure on the answers of the digit_pairs target to D3."""
    split = digit_pairs(0)
    service = Recipe(MLPTarget())(split.d1, split.d2, 0)
    d1, d2, scores = service.answer(split.d1), service.answer(split.d2), service(split.d3.x)
    guard, purifier = MemGuard()(d1, d2, 0), PurifierDefence()(None, d2, 0)
    alone, one_by_one = spent(
        lambda: np.stack([noise_for_one(guard.network, row) for row in scores])
    )
    batched = [spent(lambda: noise_for_many(guard.network, scores)) for _ in range(ROUNDS)]
    whole = [spent(lambda: replace(guard, answered={})(scores))[0] for _ in range(ROUNDS)]
    purified = [spent(lambda: purifier(scores))[0] for _ in range(ROUNDS + 1)][1:]
    single = [spent(lambda: [purifier(row[None]) for row in scores])[0] for _ in range(ROUNDS)]

    def moved(noisy):
        return np.abs(noisy - scores).sum(1) > 1e-5

    seconds = {
        "memguard, one at a time": alone,
        "memguard, batched": statistics.median(s for s, _ in batched),
        "memguard, batched, with its coins": statistics.median(whole),
        "purifier, batched": statistics.median(purified),
        "purifier, one at a time": statistics.median(single),
    }
    report = {
        "records": len(scores),
        "milliseconds_a_record": {
            name: round(1e3 * value / len(scores), 5) for name, value in seconds.items()
        },
        "batched_is_faster_by": round(alone / seconds["memguard, batched"], 1),
        "purifier_adds_less_by": {
            name: round(alone / seconds[name])
            for name in ("purifier, batched", "purifier, one at a time")
        },
        "batched_memguard_over_batched_purifier": round(
            seconds["memguard, batched"] / seconds["purifier, batched"], 1
        ),
        "same_decisions": bool(np.array_equal(moved(one_by_one), moved(batched[0][1]))),
        "largest_difference": float(np.abs(one_by_one - batched[0][1]).max()),
    }
    print(json.dumps(report, indent=1))
    save(__file__, report)


if __name__ == "__main__":
    with one_core():
        main()
