"""Networks of keras.applications with the weights of a file.

Keras's own files, with a head of 1,000 classes or without ("notop"), files that
`save_weights` wrote and `.keras` files of the network load alike. The network
normalises images as in the training of the weights.
"""

import collections
import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from ft_tf import catalogue, errors
from ft_tf.models import (
  applications,
  checks,
  graph,
  layers,
  origins,
  standard,
  weight_files,
)

# `mean` and `std`, of 1 value or 3.
_Statistics = Mapping[str, tuple[float, ...]]
# The modes of keras.applications' preprocess_input, as channel means and
# deviations of images in [0, 1].
_TF = {'mean': (0.5,), 'std': (0.5,)}  # -1..1
_TORCH = catalogue.IMAGENET
_CAFFE = catalogue.CAFFE
_BY_128 = {'mean': (128 / 255,), 'std': (128 / 255,)}
# By module of keras.applications: what its preprocess_input does or, where that
# does nothing, what the layers do that include_preprocessing adds.
_FAMILIES: dict[str, _Statistics] = {
  'convnext': _TORCH,
  'densenet': _TORCH,
  'efficientnet_v2': _BY_128,  # S, M, L; B0 to B3 have _TORCH
  'inception_resnet_v2': _TF,
  'inception_v3': _TF,
  'mobilenet': _TF,
  'mobilenet_v2': _TF,
  'mobilenet_v3': _TF,
  'nasnet': _TF,
  'resnet': _CAFFE,
  'resnet_v2': _TF,
  'vgg16': _CAFFE,
  'vgg19': _CAFFE,
  'xception': _TF,
}
_PREPROCESSING: dict[str, _Statistics] = {
  '0..1': {'mean': (0.0,), 'std': (1.0,)},
  '-1..1': _TF,
  'imagenet': _TORCH,
  'caffe': _CAFFE,
}


@dataclasses.dataclass(frozen=True)
class _Outline:
  """What is known of a network without its weights.

  Attributes:
    operations: The names of its operations' classes.
    shapes: How often its weights have each shape, those of the head left out.
    kernel: The shape of the head's kernel, without the classes.
  """

  operations: frozenset[str]
  shapes: collections.Counter[tuple[int, ...]]
  kernel: tuple[int, ...]


@functools.cache
def _outline(name: str, image_shape: tuple[int, int, int]) -> _Outline:
  """Returns the outline of a network, which takes a second to build."""
  network = applications.plain(name, image_shape, classes=1)
  head = applications.head_of(network)
  return _Outline(
    frozenset(type(call.operation).__name__ for call in graph.calls(network)),
    collections.Counter(
      tuple(weight.shape)
      for layer in network.layers
      if layer is not head
      for weight in layer.weights
    ),
    tuple(head.kernel.shape[:-1]),
  )


def classes_of(
  name: str, spec: layers.Spec, path: str, role: str = 'teacher'
) -> int | None:
  """Returns the number of classes of a file's head; None if it has no head.

  Args:
    name: The network, as of `applications.is_name`.
    spec: The data's shape.
    path: An `.h5` or `.keras` file.
    role: What the network is, 'teacher' or 'student', whose flags messages
      name.

  Raises:
    UsageError: there is no such file, or its weights are not of the network.
  """
  _check(name, path, role)
  outline = _outline(name, _shape(name, spec))
  weight_files.check_plain(path, outline.operations, name, role)
  # Names differ between Keras's releases, shapes do not: what the file has
  # besides the network's shapes must be the kernel and bias of a head.
  head_shapes = weight_files.shape_counts(path, role) - outline.shapes
  if not head_shapes:
    return None
  for classes in {shape[-1] for shape in head_shapes}:
    kernel = (*outline.kernel, classes)
    if head_shapes == collections.Counter([kernel, (classes,)]):
      return classes
  raise errors.UsageError(
    f'{path} is not of {name} for images of {spec.image_shape}: it has other '
    f'weights, of shapes {", ".join(map(str, sorted(head_shapes)[:3]))}; give '
    f'the --{role} that it was saved from, images of its --channels, or '
    'weights without a head'
  )


def build(
  name: str,
  spec: layers.Spec,
  path: str,
  preprocessing: str = 'none',
  role: str = 'teacher',
) -> keras.Model:
  """Returns a network with a file's weights.

  If the file's head has the data's number of classes, the network is taken as
  trained, with Keras's strides. Otherwise the head is fresh, all other weights
  are the file's, and small images are shrunk less, see `applications.build`.

  Args:
    name: The network, as of `applications.is_name`.
    spec: The data's shape; its statistics are replaced by those that the
      weights were trained with.
    path: An `.h5` or `.keras` file.
    preprocessing: What was done to the images that it was trained on, as of
      `standard.flatten`; `none`: what is usual for its family.
    role: As of `classes_of`.

  Returns:
    A model from raw images `[B, H, W, C]` uint8 to logits `[B, classes]`.

  Raises:
    UsageError: file, network and images do not fit each other.
  """
  classes = classes_of(name, spec, path, role)
  loaded = _load(name, spec, path, classes)
  is_trained = classes == spec.classes
  statistics = _statistics(name, spec, loaded, preprocessing, role)
  model, pairs = applications.build(
    name,
    dataclasses.replace(
      spec,
      mean=_by_channel(statistics['mean'], spec),
      std=_by_channel(statistics['std'], spec),
    ),
    as_built=is_trained,
  )
  loaded_layers = [
    layer
    for layer in standard.flatten(loaded).layers
    if layer.weights and not isinstance(layer, keras.layers.Normalization)
  ]
  copies = [copy for layer, copy in pairs if layer.weights]
  fresh = {copy.name for copy in copies}
  # Not strict: without a head, `loaded` ends earlier.
  for layer, copy in zip(loaded_layers, copies, strict=False):
    is_head = copy is copies[-1]
    if is_trained or (not is_head and _fits(layer, copy)):
      copy.set_weights(layer.get_weights())
      fresh.remove(copy.name)
  if statistics is _CAFFE:
    # The weights are for blue first, images here are red first.
    kernel, *bias = copies[0].get_weights()
    copies[0].set_weights([kernel[:, :, ::-1], *bias])
  origins.note(model, fresh)
  return model


def _by_channel(
  values: Sequence[float], spec: layers.Spec
) -> tuple[float, ...]:
  """Returns a value per channel of the images, from these or one for all."""
  return tuple(values) * (spec.image_shape[-1] // len(values))


def _load(
  name: str, spec: layers.Spec, path: str, classes: int | None
) -> keras.Model:
  """Returns the network with a file's weights; `classes`: see `classes_of`."""
  network = applications.plain(
    name,
    _shape(name, spec),
    classes=classes or spec.classes,
    head=classes is not None,
  )
  try:
    with warnings.catch_warnings():
      # Keras warns of weights that do not fit, and raises an error as well.
      warnings.simplefilter('ignore')
      network.load_weights(path)
  except Exception as error:  # Of damaged files h5py raises many kinds.
    raise errors.UsageError(
      f'{path} does not load as weights of {name} '
      f'({errors.first_line(error)}): give a file saved from the network of '
      'keras.applications itself'
    ) from error
  checks.check_finite(network, path)
  return network


def _check(name, path, role):
  if not applications.is_name(name):
    raise errors.UsageError(
      f'--{role}_weights={path} are not for --{role}={name}: give a network of '
      f'keras.applications, such as mobilenetv2, or no --{role}_weights'
    )
  if path == 'imagenet':
    raise errors.UsageError(
      f'--{role}_weights=imagenet: nothing is downloaded here; give a file of '
      f'weights for {name}, .weights.h5, .h5 or .keras'
    )
  weight_files.check_file(path, role)


def _shape(name, spec):
  """Returns the shape of images to build the network for that a file fits.

  It matters for VGG's dense layers alone; for other networks any size does that
  Keras allows.
  """
  taken = 1
  if not applications.family(name).startswith('vgg'):
    taken = applications.strides_taken(spec.image_shape)
  height, width, channels = spec.image_shape
  return height * taken, width * taken, channels


def _statistics(
  name: str,
  spec: layers.Spec,
  loaded: keras.Model,
  preprocessing: str,
  role: str,
) -> _Statistics:
  """Returns mean and std, of 1 value or 3, that a network normalises by."""
  if preprocessing != 'none':
    statistics = _PREPROCESSING[preprocessing]
  elif applications.family(name) == 'efficientnet':
    statistics = _of_normalization(loaded)
  elif name.startswith('efficientnetv2b'):
    statistics = _TORCH if spec.image_shape[-1] == 3 else _BY_128
  else:
    statistics = _FAMILIES[applications.family(name)]
  if len(statistics['mean']) not in (1, spec.image_shape[-1]):
    # The flag is the teacher's; a student has what its family has.
    fix = (
      '--preprocessing=0..1 or -1..1' if role == 'teacher' else '--channels=3'
    )
    raise errors.UsageError(
      f'{name} is normalised by 3 channels, the images have '
      f'{spec.image_shape[-1]}: give {fix}'
    )
  return statistics


def _of_normalization(loaded: keras.Model) -> _Statistics:
  """Returns the statistics in a network's own normalisation of 0..1."""
  (normalization,) = [
    layer
    for layer in loaded.layers
    if isinstance(layer, keras.layers.Normalization)
  ]
  mean, variance, *_ = normalization.get_weights()
  std = np.sqrt(variance)
  # Keras's own files of EfficientNet hold the deviation in the variance's
  # place, and its builder divides once more by the root after loading them.
  if np.allclose(variance, _TORCH['std']):
    std = variance
  return {
    'mean': tuple(map(float, mean)),
    'std': tuple(map(float, std)),
  }


def _fits(layer: keras.layers.Layer, copy: keras.layers.Layer) -> bool:
  """Tells whether a layer's weights fit a copy.

  VGG's first dense layer depends on the size of the last map.
  """
  return [w.shape for w in layer.weights] == [w.shape for w in copy.weights]
