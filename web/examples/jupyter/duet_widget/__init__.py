"""`<duet-explainer>` in a notebook: a model, an image, and what would have to change for the model to decide otherwise.

    from duet_widget import DuetExplainer
    widget = DuetExplainer(model="model.safetensors", image="shoe.png")
    widget

All is computed by the browser's GPU, whatever machine the kernel runs on. What comes of it is in the widget's traits, which cells
can `observe`: `info` of the model, `probabilities` and `classification` of the image, `explanation`, `counterfactual` (an array)
and `error`.
"""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

__all__ = ["DuetExplainer"]


def _source(model):
    """A model as the front end has it: its bytes, or an address."""
    if isinstance(model, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(model)}
    if isinstance(model, str) and model.startswith(("http://", "https://", "/")) and not Path(model).exists():
        return {"url": model}
    return {"bytes": Path(model).read_bytes()}


def _picture(image):
    """An image likewise: a file's bytes, or levels from 0 to 255 with their shape [H,W] or [H,W,C]."""
    if image is None:
        return {}
    if isinstance(image, (bytes, bytearray, memoryview)):
        return {"data": bytes(image)}
    if isinstance(image, (str, Path)):
        return {"data": Path(image).read_bytes()}
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ValueError(f"an image is uint8 [H,W], or [H,W,C] of 1, 3 or 4 channels, not {array.dtype} {list(array.shape)}")
    return {"data": array.tobytes(), "shape": list(array.shape)}


def _array(levels):
    return np.frombuffer(levels["data"], np.uint8).reshape(levels["shape"]) if levels else None


class DuetExplainer(anywidget.AnyWidget):
    """An image is dropped, a class chosen, and the counterfactual shown.

    `model` is a path, the bytes of a `.safetensors` file, or an address that the browser fetches (large models: a message to a
    notebook should not hold them). `image` is a path, a picture file's bytes, or uint8 [H,W] or [H,W,C]. Options are those of the
    package's `explain`: target, steps, strength, locality, noise, seed.
    """

    _esm = Path(__file__).parent / "widget.js"

    _source = traitlets.Dict().tag(sync=True)
    _image = traitlets.Dict().tag(sync=True)
    options = traitlets.Dict(help="Of every question.").tag(sync=True)
    info = traitlets.Dict(help="What is known of the model that is loaded.").tag(sync=True)
    probabilities = traitlets.List(traitlets.Float(), help="Of each class, of the image.").tag(sync=True)
    classification = traitlets.Dict(help="`label`, `best`, `probabilities` of the image.").tag(sync=True)
    explanation = traitlets.Dict(help="`before`, `after`, `target`, `reached`, `strength`, `seed`, `mean_change`.").tag(sync=True)
    error = traitlets.Unicode(help="What failed last, in words.").tag(sync=True)
    _original = traitlets.Dict().tag(sync=True)
    _counterfactual = traitlets.Dict().tag(sync=True)

    def __init__(self, model, image=None, **options):
        super().__init__(_source=_source(model), _image=_picture(image), options=options)

    def show(self, image):
        """Shows another image."""
        self._image = _picture(image)

    def explain(self, target=None):
        """Asks what would make the image `target`, by number or name; without it the class that is chosen."""
        self.send({"explain": {} if target is None else {"target": target}})

    @property
    def counterfactual(self):
        """The last answer as uint8 [H,W,C]; None before one is there."""
        return _array(self._counterfactual)

    @property
    def original(self):
        """The image that it answers for, as the model saw it."""
        return _array(self._original)
