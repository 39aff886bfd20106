"""Compare plans with measurements: each epoch in the store with the forecast from those before it.

    dolly train --model demo --dataset demo --epochs 1-3
    python benchmarks/plan.py --model demo --dataset demo

The first line is computed by formulas alone, the baseline; each other line is calibrated by the
epochs above it. A ratio is predicted over measured. Time is that of an epoch's training; memory is
the peak of the fullest GPU, or of all CPU ranks together.
"""

import argparse
from dataclasses import replace

from dolly_assets.core.environment import Environment
from dolly_assets.core.text import duration, memory_size
from dolly_assets.pipeline.session import Session
from dolly_assets.planning.calibration import calibration
from dolly_assets.planning.plan import plan
from dolly_assets.registry.estimate import measured_epochs, plan_request
from dolly_assets.registry.training import Training


def main() -> None:
    """Print a line for each epoch of the newest training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    arguments = parser.parse_args()
    session = Session(Environment.read())
    family, store = session.family(arguments.model), session.store
    training = Training.newest(store, family, arguments.dataset)
    job = plan_request(store, training, session.prices, epochs=1)
    epochs, plans = measured_epochs(store, family)
    epochs = [epoch for epoch in epochs if epoch.training == training.digest]
    print(
        f"{'epoch':<36} {'time':>9} {'planned':>9} {'ratio':>6}   "
        f"{'memory':>9} {'planned':>9} {'ratio':>6}"
    )
    for index, epoch in enumerate(epochs):
        made = plan(replace(job, calibration=calibration(epochs[:index], plans)))
        seconds, peak = made.seconds_per_epoch or 0.0, epoch.peak_bytes or 0
        print(
            f"{epoch.source:<36} {duration(epoch.seconds):>9} {duration(seconds):>9} "
            f"{seconds / epoch.seconds:>6.2f}   {memory_size(peak):>9} "
            f"{memory_size(made.needed_bytes):>9} "
            f"{made.needed_bytes / peak if peak else 0:>6.2f}"
        )


if __name__ == "__main__":
    main()
