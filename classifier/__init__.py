"""Classifiers over image archives: data, preprocessing, models, training, calibration and evaluation.

The only home of fastai and timm. Importing this package costs nothing; its modules import torch and fastai
where they need them.
"""

from classifier.torchvision_cpu import install_torchvision_guard

install_torchvision_guard()  # before anything below imports torchvision, in spawned workers too
