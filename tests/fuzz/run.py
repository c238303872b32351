"""Run trials for as long as wanted: ``python tests/fuzz/run.py [CATEGORY ...] --seconds 60 --seed 0``.

A failure is printed with what runs it again: ``--only CATEGORY:SEED:TRIAL``. ``--planted`` breaks the library
in one way per category, and says after how many trials that was found.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # as a script, where this folder would be the first to be searched
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from fuzz import api, arithmetic, command, damage, processes, products, words  # noqa: F401  # their categories
from fuzz.harness import CATEGORIES, KINDS, Category, Failure, run_trial

SHOWN = 5  # failures of a kind and a category that are written out


def say(line: str = "") -> None:
    """Write a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def trials(chosen: Category, seed: int, seconds: float, most: int) -> Iterator[tuple[int, Failure | None]]:
    """Run trials until the time is over."""
    end = time.monotonic() + seconds
    for number in range(most):
        yield number, run_trial(chosen, seed, number)
        if time.monotonic() > end:
            return


def first_found(chosen: Category, seed: int, most: int) -> int | None:
    """Return which trial finds the planted fault; None if none does."""
    with chosen.plant():
        return next((number for number in range(most) if run_trial(chosen, seed, number)), None)


def again(what: str) -> int:
    """Run one trial again, and show all of what it raises."""
    name, seed, number = what.split(":")
    found = run_trial(CATEGORIES[name], int(seed), int(number))
    if found is None:
        say("nothing wrong")
        return 0
    traceback.print_exception(found)
    return 1


def main() -> int:
    """Run what the command line asks for; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", nargs="*", metavar="CATEGORY", help=", ".join(CATEGORIES))
    parser.add_argument("--seconds", type=float, default=60, help="of each category (60)")
    parser.add_argument("--trials", type=int, default=10**9, help="of each category, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="CATEGORY:SEED:TRIAL", help="run one trial again")
    parser.add_argument("--planted", action="store_true", help="break the library, and see it found")
    options = parser.parse_args()
    if options.only:
        return again(options.only)
    unknown = set(options.categories) - CATEGORIES.keys()
    if unknown:
        parser.error(f"no category {', '.join(sorted(unknown))}; there are {', '.join(CATEGORIES)}")
    chosen = [CATEGORIES[name] for name in options.categories or CATEGORIES]
    if options.planted:
        found = {one.name: "skipped" if one.skip() else first_found(one, options.seed, 400) for one in chosen}
        for name, number in found.items():
            say(f"{name:<16}{'NOT FOUND' if number is None else number}")
        return int(None in found.values())
    failed = False
    say(f"{'category':<16}{'trials':>9}" + "".join(f"{kind:>14}" for kind in KINDS))
    for one in chosen:
        if reason := one.skip():
            say(f"{one.name:<16}{'-':>9}  {reason}")
            continue
        kinds: Counter[str] = Counter()
        number = -1
        for number, failure in trials(one, options.seed, options.seconds, options.trials):
            if failure is not None:
                failed = True
                kinds[failure.kind] += 1
                if kinds[failure.kind] <= SHOWN:
                    say(f"  --only {one.name}:{options.seed}:{number}  {failure}")
        say(f"{one.name:<16}{number + 1:>9}" + "".join(f"{kinds[kind]:>14}" for kind in KINDS))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
