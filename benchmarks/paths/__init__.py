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
    "gpu-training": "paths.gpu_training",
    "gpu-attacks": "paths.gpu_attacks",
    "gpu-explainers": "paths.gpu_explainers",
}
ON_GPU = ("gpu-training", "gpu-attacks", "gpu-explainers")  # refused without one, but for --quick
ASKED = ("suite", *ON_GPU)  # a quarter of an hour, or another machine: measured only where they are named
