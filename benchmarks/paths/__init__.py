"""The hot paths that benchmarks/all.py measures, one module each, with `TITLE`, `SAYS` and `measure(quick)`."""

PARTS = {  # name on the command line -> module; in the order of the page
    "training": "paths.training",
    "explainers": "paths.explainers",
    "attacks": "paths.attacking",
    "evaluations": "paths.evaluations",
    "metrics": "paths.metrics",
    "store": "paths.store",
    "peers": "paths.peers",
    "memory": "paths.memory",
    "phantom": "paths.phantom",
    "suite": "paths.suite",
}
ASKED = ("suite",)  # a quarter of an hour: measured only where it is named
