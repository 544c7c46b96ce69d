"""Networks of keras.applications by name, for images of any size.

They were designed for images of 224 pixels and more and shrink them 32 times,
which leaves a map of 1x1 of an image of 32x32. Here small images are shrunk
less, by the rule of `strides_taken`.
"""

import collections
import functools
import inspect
import re
from collections.abc import Callable

import keras

from ft_tf import errors
from ft_tf.models import graph, layers, standard

_STRIDE = 32  # of every network here, from image to last map
_LARGE = 96  # pixels; for such images and larger a network stays as it is
_LEAST_MAP = 4  # height and width of the last map of smaller images

_STRIDED = (
  keras.layers.Conv2D,
  keras.layers.DepthwiseConv2D,
  keras.layers.SeparableConv2D,
  keras.layers.MaxPooling2D,
  keras.layers.AveragePooling2D,
)

# (layer as Keras builds it, layer as it is here).
Pairs = list[tuple[keras.layers.Layer, keras.layers.Layer]]

# MobileNet has 420 million weights then; wider ones only fill the memory.
_WIDEST = 10


@functools.cache
def builders() -> dict[str, Callable[..., keras.Model]]:
  """Returns the functions of keras.applications, by name in lower case."""
  return {
    name.lower(): function
    for name, function in vars(keras.applications).items()
    if inspect.isfunction(function)
  }


def is_name(name: str) -> bool:
  """Tells whether a name, with its width, is that of a network here."""
  return _parts(name) is not None


def family(name: str) -> str:
  """Returns the module of keras.applications that has a network."""
  builder, _ = _parts(name)
  return builder.__module__.rpartition('.')[2]


def may_preprocess(name: str) -> bool:
  """Tells whether Keras builds a network with its preprocessing by default."""
  builder, _ = _parts(name)
  return 'include_preprocessing' in inspect.signature(builder).parameters


def _parts(name):
  """Returns a name's function and its options; None if there is none."""
  if name in builders():
    return builders()[name], {}
  match = re.fullmatch(r'(\w+)x(\d{1,4}(?:\.\d+)?)', name)
  if match is None:
    return None
  builder = builders().get(match[1])
  if builder is None or 'alpha' not in inspect.signature(builder).parameters:
    return None
  alpha = float(match[2])
  return (builder, {'alpha': alpha}) if 0 < alpha <= _WIDEST else None


def plain(
  name: str,
  image_shape: tuple[int, int, int],
  *,
  classes: int,
  head: bool = True,
) -> keras.Model:
  """Returns a fresh network as Keras builds it, for normalised images.

  Args:
    name: See `is_name`.
    image_shape: `(H, W, C)`.
    classes: Number of logits.
    head: Whether it ends in logits; otherwise in its last feature map.

  Raises:
    UsageError: the images are smaller than Keras allows.
  """
  builder, options = _parts(name)
  if may_preprocess(name):
    options['include_preprocessing'] = False
  try:
    return builder(
      input_shape=image_shape,
      weights=None,
      include_top=head,
      classes=classes,
      classifier_activation=None,
      **options,
    )
  except ValueError as error:
    reason = str(error).strip().splitlines()[0]
    raise errors.UsageError(
      f'{name} does not take images of {image_shape} ({reason}): give a larger '
      '--image_size'
    ) from error


def strides_taken(image_shape: tuple[int, int, int]) -> int:
  """Returns by which factor images of a size are shrunk less than by 32.

  1 for images of 96 pixels and more; below that the power of two that leaves a
  last map of 4x4 or more: 2 from 64 pixels on (16 times smaller), 4 from 32 on
  (8 times smaller), 8 from 16 on, and so down to 4 pixels.

  Args:
    image_shape: `(H, W, C)`, of which the shorter side counts.
  """
  side = min(image_shape[:2])
  taken = 1
  while side < _LARGE and side * taken < _LEAST_MAP * _STRIDE:
    taken *= 2
  return taken


def build(
  name: str, spec: layers.Spec, *, as_built: bool = False
) -> tuple[keras.Model, Pairs]:
  """Returns a fresh network for the data.

  Its layers have the names, kernels and order of Keras's. The differences:
  images are raw and normalised by `spec`; the first strided convolutions and
  poolings lose strides for small images, see `strides_taken`; batch norm has a
  momentum of 0.9, and is synchronized if `spec` says so; logits are float32.

  Args:
    name: See `is_name`.
    spec: The data's shape and statistics.
    as_built: Whether to keep all strides, however small the images are.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`
    float32; and its layers paired with those of `plain`, flattened, in order.

  Raises:
    UsageError: it does not fit the images.
  """
  height, width, channels = spec.image_shape
  if min(height, width) < _LEAST_MAP:
    raise errors.UsageError(
      f'{name} needs images of 4x4 or more, these are {spec.image_shape}: give '
      '--image_size=32'
    )
  taken = 1 if as_built else strides_taken(spec.image_shape)
  # Built for images larger by the strides that it loses: what depends on the
  # size of a map, such as the padding before a strided convolution, then fits
  # the maps of the strides that stay.
  original = plain(
    name, (height * taken, width * taken, channels), classes=spec.classes
  )
  return _adapted(standard.flatten(original), spec, taken)


def head_of(model: keras.Model) -> keras.layers.Layer:
  """Returns the layer of a `plain` network that makes the logits."""
  return [layer for layer in model.layers if layer.weights][-1]


def _adapted(model, spec, strides_to_take):
  """Returns what `build` does, from a network built larger by these strides."""
  image, start = layers.images(spec)
  adaptation = _Adaptation(head_of(model), spec, strides_to_take)
  (logits,) = graph.run(model, [start], adaptation.replace)
  pairs = [
    (layer, adaptation.copies[id(layer)])
    for layer in model.layers
    if id(layer) in adaptation.copies
  ]
  return keras.Model(image, logits, name=model.name), pairs


class _Adaptation:
  """Calls a network's operations again, with the changes that `build` lists.

  Attributes:
    copies: The new layer by the id of the network's layer.
  """

  def __init__(self, head, spec, strides_to_take):
    self.copies = {}
    self._head, self._spec = head, spec
    self._strides_to_take = strides_to_take
    self._strides_taken = {}  # on the way to a tensor, by its id
    self._tensors = []  # held, so that no other tensor gets the id of one
    self._name_counts: collections.Counter[str] = collections.Counter()
    self._is_past_head = False

  def replace(self, operation):
    """Returns what is called in an operation's place."""
    if isinstance(
      operation, (keras.layers.Rescaling, keras.layers.Normalization)
    ):
      return lambda x, **_: x  # The images are normalised already, by `spec`.
    return lambda *args, **kwargs: self._call(operation, args, kwargs)

  def _call(self, operation, args, kwargs):
    inputs = keras.tree.flatten((args, kwargs))
    strides_taken = max(self._strides_taken.get(id(x), 1) for x in inputs)
    name = _own_name(operation, self._name_counts)
    if isinstance(operation, keras.layers.Layer):
      config = {**self._config(operation), 'name': name}
      if self._strides_to_take > 1 and isinstance(operation, _STRIDED):
        less = min(
          max(operation.strides), self._strides_to_take // strides_taken
        )
        args = (_take_strides(operation, config, args[0], less),)
        strides_taken *= less
      called = type(operation).from_config(config)
      self.copies[id(operation)] = called
    else:
      called = operation
      called.name = name
    y = called(*args, **kwargs)
    self._strides_taken[id(y)] = strides_taken
    self._tensors.append(y)
    return y

  def _config(self, layer):
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
      config['momentum'] = layers.MOMENTUM
      config['synchronized'] = self._spec.sync_batch_norm
    self._is_past_head |= layer is self._head
    if self._is_past_head:
      config['dtype'] = 'float32'
    return config


def _own_name(operation, name_counts):
  """Returns a name that does not depend on what was built before.

  Keras numbers the operations without a name of all models in one row.
  """
  stem = re.sub(r'_\d+$', '', operation.name)
  if stem.replace('_', '') != type(operation).__name__.lower():
    return operation.name
  name_counts[stem] += 1
  return f'{stem}_{name_counts[stem]}'


def _take_strides(layer, config, x, less):
  """Returns the input of a layer that gets `less` times less stride.

  Zero padding that was there for the stride is removed with it, and overlapping
  windows do not use up the border of a small map. Changes the configuration.
  """
  config['strides'] = tuple(stride // less for stride in layer.strides)
  producer = graph.producer(x)
  is_padded = isinstance(producer.operation, keras.layers.ZeroPadding2D)
  if less > 1:
    config['padding'] = 'same'
    if is_padded:
      (x,) = producer.inputs
  elif not is_padded and max(_window(layer)) > max(layer.strides):
    config['padding'] = 'same'
  return x


def _window(layer):
  """Returns height and width of the places that a layer reads at once."""
  if isinstance(
    layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
  ):
    return layer.pool_size
  return layer.kernel_size
