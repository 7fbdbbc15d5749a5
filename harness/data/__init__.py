"""From files to batches: index, cache, batches. Datasets say what there is; this says how it is read."""
