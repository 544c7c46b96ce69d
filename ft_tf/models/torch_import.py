"""PyTorch's arrays to a network of the zoo, by name and shape.

Public codes name the parts of one network differently. Known are the names of
torchvision, of the usual CIFAR ResNet (`shortcut`, `linear`), of RepDistiller
(`downsample`, `fc`, `block1.layer.0`, `block0.1`) and of the wide ResNets'
PyTorch ports (`convShortcut`).
"""

import collections
import itertools
import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from ft_tf import errors
from ft_tf.models import layers, model_files, zoo

# The last part of a weight's name: PyTorch's -> Keras's.
_NORM = {
  'weight': 'gamma',
  'bias': 'beta',
  'running_mean': 'moving_mean',
  'running_var': 'moving_variance',
}
_KERNEL = {'weight': 'kernel', 'bias': 'bias'}
# A PyTorch module's name, and the layers of our networks that it may be.
_MODULES = (
  (r'conv1?', ('conv',)),
  (r'bn1?', ('bn',)),
  (r'(?:linear|fc|classifier)(?:\.\d+)?', ('logits',)),
  (
    r'(?:layer|block)(\d+)(?:\.layer)?\.(\d+)\.(conv[12]|bn[12])',
    ('g{0}b{1}_{2}',),
  ),
  (
    r'(?:layer|block)(\d+)(?:\.layer)?\.(\d+)\.'
    r'(?:convShortcut|(?:shortcut|downsample)(?:\.0)?)',
    ('g{0}b{1}_shortcut_conv', 'g{0}b{1}_shortcut'),
  ),
  (
    r'(?:layer|block)(\d+)(?:\.layer)?\.(\d+)\.(?:shortcut|downsample)\.1',
    ('g{0}b{1}_shortcut_bn',),
  ),
)
_NAMED = 5  # wrong arrays in a message
# VGG's convolutions and norms have numbers for names.
_NUMBERED = r'(?:features|block\d+)\.\d+'


def network(
  arrays: dict[str, np.ndarray], name: str, spec: layers.Spec
) -> keras.Model:
  """Returns a network with the weights of a PyTorch state dict.

  Kernels are `[O, I, h, w]` in PyTorch and `[h, w, I, O]` in Keras.

  Args:
    arrays: The state dict, as of `checkpoints.read`.
    name: The network's, as in `zoo.NAMES`.
    spec: The data's shape, and the mean and deviation of images in [0, 1] that
      the weights were trained with.

  Raises:
    UsageError: the arrays are not exactly those of the network; they are named.
  """
  if model_files.is_file(name):
    raise errors.UsageError(
      f'--network={name}: give a name, such as resnet56 or wrn-40-2'
    )
  if not len(spec.mean) == len(spec.std) == spec.image_shape[-1]:
    raise errors.UsageError(
      f'images of {spec.image_shape[-1]} channels: give --mean and --std with '
      'one value per channel'
    )
  model = zoo.build(name, spec)
  weights = {
    '/'.join(weight.path.split('/')[-2:]): weight for weight in model.weights
  }
  sources, unknown = {}, []  # {weight name: array name}
  for array_name, weight_name in _weight_names(arrays, model).items():
    if weight_name in weights and weight_name not in sources:
      sources[weight_name] = array_name
    else:
      unknown.append(f'{array_name} is not in {name}')
  mismatches = [
    *(f'{each} has no array' for each in weights if each not in sources),
    *unknown,
    *_shape_mismatches(arrays, sources, weights),
  ]
  if mismatches:
    more = len(mismatches) - _NAMED
    raise errors.UsageError(
      f'the weights do not match {name}: {"; ".join(mismatches[:_NAMED])}'
      + (f' and {more} more' if more > 0 else '')
      + '. Give the --network they were saved from, and a state dict of it '
      'alone'
    )
  for weight_name, weight in weights.items():
    weight.assign(_to_keras(arrays[sources[weight_name]]))
  return model


def _shape_mismatches(
  arrays: Mapping[str, np.ndarray],
  sources: Mapping[str, str],
  weights: Mapping[str, keras.Variable],
) -> Iterator[str]:
  """Yields which arrays have another shape than the weights they are for."""
  for weight_name, weight in weights.items():
    if weight_name in sources:
      array_name = sources[weight_name]
      array_shape = _to_keras(arrays[array_name]).shape
      if array_shape != tuple(weight.shape):
        yield f'{array_name} gives {array_shape} for {tuple(weight.shape)}'


def shape(arrays: dict[str, np.ndarray]) -> tuple[int, int]:
  """Returns the channels of the images and the number of classes.

  Args:
    arrays: The state dict of a classifier.

  Raises:
    UsageError: it has no convolution or no dense layer.
  """
  kernels = [a for a in arrays.values() if a.ndim == 4]
  heads = [a for a in arrays.values() if a.ndim == 2]
  if not kernels or not heads:
    raise errors.UsageError(
      'the weights have no convolution or no dense layer: give those of a '
      'classifier of images'
    )
  return kernels[0].shape[1], heads[-1].shape[0]


def _weight_names(
  arrays: Mapping[str, np.ndarray], model: keras.Model
) -> dict[str, str]:
  """Returns for each array the weight, `layer/kind`; '' if there is none."""
  modules: dict[str, dict[str, str]] = collections.defaultdict(dict)
  for name in arrays:
    module, _, kind = name.rpartition('.')
    if kind != 'num_batches_tracked':
      modules[module][kind] = name
  own = {layer.name for layer in model.layers}
  numbered = _in_order(modules, arrays, model)
  weight_names = {}
  for module, kinds in modules.items():
    layer = numbered.get(module) or next(
      (each for each in _candidates(module) if each in own), ''
    )
    names = _NORM if 'running_mean' in kinds else _KERNEL
    for kind, name in kinds.items():
      keras_kind = names.get(kind)
      weight_names[name] = (
        f'{layer}/{keras_kind}' if layer and keras_kind else ''
      )
  return weight_names


def _candidates(module: str) -> Iterator[str]:
  """Yields the layers of our networks that a PyTorch module may be."""
  for pattern, layer_names in _MODULES:
    match = re.fullmatch(pattern, module)
    if match:
      parts = list(match.groups())
      if len(parts) > 1:
        parts[1] = int(parts[1]) + 1  # PyTorch counts blocks from 0.
      yield from (each.format(*parts) for each in layer_names)


def _in_order(
  modules: Mapping[str, Mapping[str, str]],
  arrays: Mapping[str, np.ndarray],
  model: keras.Model,
) -> dict[str, str]:
  """Returns the layers of modules that are numbers, by their order."""
  numbered = sorted(
    (m for m in modules if re.fullmatch(_NUMBERED, m)),
    key=lambda m: [int(n) for n in re.findall(r'\d+', m)],
  )
  norms = [m for m in numbered if 'running_mean' in modules[m]]
  convolutions = [m for m in numbered if m not in norms]
  ours = {
    kind: [layer.name for layer in model.layers if isinstance(layer, kind)]
    for kind in (keras.layers.Conv2D, keras.layers.BatchNormalization)
  }
  return dict(
    itertools.chain(
      zip(convolutions, ours[keras.layers.Conv2D], strict=False),
      zip(norms, ours[keras.layers.BatchNormalization], strict=False),
    )
  )


def _to_keras(array: np.ndarray) -> np.ndarray:
  """Returns an array in Keras's layout."""
  if array.ndim == 4:
    return array.transpose(2, 3, 1, 0)
  return array.T
