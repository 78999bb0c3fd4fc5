"""One HTML page of a noise setting, or of any labelled dataset; needs ``cifar-noisy[report]``.

`published_page` gathers what was published of a setting; `page` builds the page of any dataset from
its arrays, with `first_screen` for the results, `explorer` for the data behind the thumbnails and
`svg` for figures.
"""

import lazy_loader

# `cifar_noisy.plot` is this folder's `plot`, imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, ["plot"])
