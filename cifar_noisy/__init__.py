"""The CIFAR-10 artifacts of the confident-learning paper, checked, aligned and recomputable.

The public names are listed in ``__init__.pyi``; each is imported when it is first used, so that
``import cifar_noisy`` costs next to nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
