"""What several test files share."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
TINY = (  # settings of a run on the phantom that takes seconds
    "phantom.size=32", "n_train=48", "n_validation=16", "n_test=240", "max_epochs=1",
    "classification.resamples=50", "localisation.resamples=50", "insertion_deletion.images=4",
)  # fmt: skip
