"""A network that learns what is on a drawn radiograph in seconds, as a plug-in file."""

TINY_NETWORK = '''
from torch import nn
from harness.api import Classifier, GlobalAverageLinear, Normalise, model

@model("tiny", source="test")
def tiny(*, num_classes: int, channels: int, mean: tuple, std: tuple, weights: str | None = None) -> Classifier:
    """Four convolutions."""
    layers, before = [], channels
    for width, stride in ((16, 1), (32, 2), (32, 2), (32, 1)):
        layers += [nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return Classifier(Normalise(mean, std), nn.Sequential(*layers), GlobalAverageLinear(32, num_classes),
                      num_classes=num_classes)
'''
