"""captum's interface: its classes of these names and their signatures, for a program that uses them already.

Where captum knows all the ReLUs of a model (each an `nn.ReLU` whose input nothing else reads), answers are equal; where
it does not, they are those of the model with such ReLUs. Occlusion is computed incrementally where that can be done.

>>> from deconvviz.captum import Deconvolution
>>> net = deconvviz.load("zfnet")
>>> Deconvolution(net.module).attribute(net.preprocess("image.jpg"), target=3).shape
torch.Size([1, 3, 224, 224])
"""

from __future__ import annotations

from deconvviz.errors import MissingPackageError

try:
    import captum.attr as _  # noqa: F401
except ImportError as error:
    raise MissingPackageError(
        f"deconvviz.captum needs the package captum: pip install 'deconvviz[compare]' ({error})"
    ) from error

from deconvviz.captum.backprop import Deconvolution, GuidedBackprop, NeuronDeconvolution, NeuronGuidedBackprop
from deconvviz.captum.occlusion import Occlusion

__all__ = ["Deconvolution", "GuidedBackprop", "NeuronDeconvolution", "NeuronGuidedBackprop", "Occlusion"]
