"""A PyTorch ResNet's arrays to our model, by name and shape."""

import re
import zipfile

import keras
import numpy as np

from ft_tf import errors
from ft_tf.models import layers, zoo

# Ours -> theirs, of the last part of a weight's name.
_BATCH_NORM = {
  'gamma': 'weight',
  'beta': 'bias',
  'moving_mean': 'running_mean',
  'moving_variance': 'running_var',
}


def resnet_from_npz(path: str, network: str, spec: layers.Spec) -> keras.Model:
  """Returns a ResNet with the weights of a PyTorch state dict saved as .npz.

  The names are those of the usual CIFAR ResNet in PyTorch: `conv1`, `bn1`,
  `layer{1,2,3}.{block}.{conv1,bn1,conv2,bn2}`, `...shortcut.{0,1}` for
  projections, `linear`. Kernels are [O, I, h, w] there and [h, w, I, O] here.

  Args:
    path: The .npz file.
    network: The name of the ResNet, as in `zoo.NAMES`.
    spec: The data's shape, and the mean and deviation of images in [0, 1] that
      the weights were trained with.

  Raises:
    UsageError: the file is not a .npz, or its arrays are not exactly those of
      the network; the message names them.
  """
  if not network.startswith('resnet'):
    raise errors.UsageError(
      f'--network={network} is no ResNet: give a resnet<6n+2>, with '
      '-parameter-free for shortcuts without weights'
    )
  if not len(spec.mean) == len(spec.std) == spec.image_shape[-1]:
    raise errors.UsageError(
      f'images of {spec.image_shape[-1]} channels: give --mean and --std with '
      'one value per channel'
    )
  model = zoo.build(network, spec)
  arrays = _read(path)
  wanted = {_torch_name(weight.path): weight for weight in model.weights}
  found = {
    name: _to_keras(name, array)
    for name, array in arrays.items()
    if not name.endswith('num_batches_tracked')
  }
  wrong = [
    *(f'{name} is missing' for name in wanted if name not in found),
    *(f'{name} is not in {network}' for name in found if name not in wanted),
    *(
      f'{name} gives {found[name].shape} for {tuple(weight.shape)}'
      for name, weight in wanted.items()
      if name in found and found[name].shape != tuple(weight.shape)
    ),
  ]
  if wrong:
    raise errors.UsageError(
      f'{path} does not match {network}: {"; ".join(wrong)}. Give the '
      '--network it was saved from'
    )
  for name, weight in wanted.items():
    weight.assign(found[name])
  return model


def _read(path: str) -> dict[str, np.ndarray]:
  try:
    with zipfile.ZipFile(path) as file:
      if not all(name.endswith('.npy') for name in file.namelist()):
        raise ValueError('not the members of a .npz file')
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except FileNotFoundError as error:
    raise errors.UsageError(
      f'there is no file {path}: give --weights, a .npz file'
    ) from error
  except (ValueError, OSError, AttributeError, zipfile.BadZipFile) as error:
    raise errors.UsageError(
      f'{path} is not a .npz file of plain arrays: save the state dict with '
      'numpy.savez'
    ) from error


def _torch_name(path: str) -> str:
  """Returns PyTorch's name of one of our weights, `layer/kind`."""
  layer, kind = path.split('/')[-2:]
  kind = _BATCH_NORM.get(kind, {'kernel': 'weight'}.get(kind, kind))
  names = {'conv': 'conv1', 'bn': 'bn1', 'logits': 'linear'}
  match = re.fullmatch(r'g(\d+)b(\d+)_(\w+)', layer)
  if not match:
    return f'{names[layer]}.{kind}'
  part = {'shortcut_conv': 'shortcut.0', 'shortcut_bn': 'shortcut.1'}
  return (
    f'layer{match[1]}.{int(match[2]) - 1}.{part.get(match[3], match[3])}.{kind}'
  )


def _to_keras(name: str, array: np.ndarray) -> np.ndarray:
  """Returns an array in Keras's layout."""
  if array.ndim == 4:
    return array.transpose(2, 3, 1, 0)
  if array.ndim == 2:
    return array.T
  return array
