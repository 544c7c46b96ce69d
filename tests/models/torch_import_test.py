"""Imported networks against PyTorch's arithmetic, written out in numpy."""

import os

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import checkpoints, layers, torch_import
from tests import networks

_SPEC = layers.Spec((8, 8, 3), 5, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Names and layouts below are PyTorch's: kernels [O, I, h, w], dense [O, I],
# images [B, C, H, W].


_conv = networks.torch_conv
_norm = networks.torch_norm
_state = networks.torch_resnet


def _conv2d(x, kernel, stride=1):
  """torch.nn.functional.conv2d with padding of half the kernel's size."""
  size = kernel.shape[-1]
  pad = size // 2
  x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  height, width = ((n - size) // stride + 1 for n in x.shape[2:])
  y = 0
  for i in range(size):
    for j in range(size):
      window = x[
        :, :, i : i + stride * height : stride, j : j + stride * width : stride
      ]
      y = y + np.einsum('bihw,oi->bohw', window, kernel[:, :, i, j])
  return y


def _batch_norm(x, state, name):
  """torch.nn.functional.batch_norm in inference, with its epsilon of 1e-5."""

  def part(kind):
    return state[f'{name}.{kind}'][:, None, None]

  x = (x - part('running_mean')) / np.sqrt(part('running_var') + 1e-5)
  return x * part('weight') + part('bias')


def _forward(state, images, spec, blocks=1):
  """Returns the logits of the network, step by step as its module does."""
  x = images / 255
  x = ((x - np.array(spec.mean)) / np.array(spec.std)).transpose(0, 3, 1, 2)
  x = _batch_norm(_conv2d(x, state['conv1.weight']), state, 'bn1')
  x = np.maximum(x, 0)
  for group in (1, 2, 3):
    for block in range(blocks):
      name = f'layer{group}.{block}'
      stride = 2 if group > 1 and block == 0 else 1
      y = _conv2d(x, state[f'{name}.conv1.weight'], stride)
      y = np.maximum(_batch_norm(y, state, f'{name}.bn1'), 0)
      y = _conv2d(y, state[f'{name}.conv2.weight'])
      y = _batch_norm(y, state, f'{name}.bn2')
      if f'{name}.shortcut.0.weight' in state:
        x = _conv2d(x, state[f'{name}.shortcut.0.weight'], stride)
        x = _batch_norm(x, state, f'{name}.shortcut.1')
      elif stride == 2:
        # F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4))
        quarter = y.shape[1] // 4
        x = np.pad(
          x[:, :, ::2, ::2], ((0, 0), (quarter, quarter), (0, 0), (0, 0))
        )
      x = np.maximum(x + y, 0)
  return x.mean(axis=(2, 3)) @ state['linear.weight'].T + state['linear.bias']


def _wide_state(depth_blocks=1, width=2, seed=0):
  """Returns the state dict of a wide ResNet, as its PyTorch port names it."""
  rng = np.random.default_rng(seed)
  state, inputs = {'conv1.weight': _conv(rng, 16, 3, 3)}, 16
  for group in (1, 2, 3):
    channels = 16 * width * 2 ** (group - 1)
    for block in range(depth_blocks):
      name = f'block{group}.layer.{block}'
      state |= _norm(rng, f'{name}.bn1', inputs)
      state[f'{name}.conv1.weight'] = _conv(rng, channels, inputs, 3)
      state |= _norm(rng, f'{name}.bn2', channels)
      state[f'{name}.conv2.weight'] = _conv(rng, channels, channels, 3)
      if inputs != channels:
        state[f'{name}.convShortcut.weight'] = _conv(rng, channels, inputs, 1)
      inputs = channels
  state |= _norm(rng, 'bn1', inputs)
  state['fc.weight'] = rng.normal(size=(5, inputs))
  state['fc.bias'] = rng.normal(size=5)
  return state


def _wide_forward(state, x):
  x = _conv2d(x, state['conv1.weight'])
  for group in (1, 2, 3):
    name = f'block{group}.layer.0'
    stride = 2 if group > 1 else 1
    y = np.maximum(_batch_norm(x, state, f'{name}.bn1'), 0)
    shortcut = _conv2d(y, state[f'{name}.convShortcut.weight'], stride)
    y = _conv2d(y, state[f'{name}.conv1.weight'], stride)
    y = np.maximum(_batch_norm(y, state, f'{name}.bn2'), 0)
    x = shortcut + _conv2d(y, state[f'{name}.conv2.weight'])
  x = np.maximum(_batch_norm(x, state, 'bn1'), 0)
  return x.mean(axis=(2, 3)) @ state['fc.weight'].T + state['fc.bias']


_VGG = (64, 64, 'M', 128, 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')


def _vgg_state(seed=0):
  """Returns the state dict of VGG-13 with batch norm, as torchvision does."""
  rng = np.random.default_rng(seed)
  state, inputs, at = {}, 3, 0
  for channels in _VGG:
    if channels == 'M':
      at += 1
      continue
    state[f'features.{at}.weight'] = _conv(rng, channels, inputs, 3)
    state[f'features.{at}.bias'] = rng.normal(size=channels)
    state |= _norm(rng, f'features.{at + 1}', channels)
    inputs, at = channels, at + 3
  state['classifier.weight'] = 0.1 * rng.normal(size=(5, 512))
  state['classifier.bias'] = rng.normal(size=5)
  return state


def _vgg_forward(state, x):
  at = 0
  for channels in _VGG:
    if channels == 'M':
      batch, depth, height, width = x.shape
      x = x.reshape(batch, depth, height // 2, 2, width // 2, 2)
      x = x.max(axis=(3, 5))
      at += 1
      continue
    x = _conv2d(x, state[f'features.{at}.weight'])
    x = x + state[f'features.{at}.bias'][:, None, None]
    x = np.maximum(_batch_norm(x, state, f'features.{at + 1}'), 0)
    at += 3
  return (
    x.mean(axis=(2, 3)) @ state['classifier.weight'].T
    + (state['classifier.bias'])
  )


def _renamed(state, **parts):
  """Returns a state dict with parts of its names replaced."""
  found = {}
  for name, array in state.items():
    for old, new in parts.items():
      name = name.replace(old, new)
    found[name] = array
  return found


def _saved(test, arrays):
  path = os.path.join(test.create_tempdir().full_path, 'weights.npz')
  np.savez(path, **arrays)
  return path


class ImportTest(parameterized.TestCase):
  def assert_refused(self, arrays, message, network='resnet8x0.25', spec=_SPEC):
    with self.assertRaisesRegex(errors.UsageError, message):
      torch_import.network(arrays, network, spec)

  @parameterized.parameters(
    ('resnet8', {}),
    ('resnet8-parameter-free', {'projection': False}),
    ('resnet14x0.25', {'blocks': 2, 'width': 0.25}),
    (
      'resnet14x0.25-parameter-free',
      {'blocks': 2, 'width': 0.25, 'projection': False},
    ),
  )
  def test_logits_equal_pytorchs_with_the_same_weights(self, network, shape):
    state = _state(**shape)
    model = torch_import.network(
      checkpoints.read(_saved(self, state)), network, _SPEC
    )
    images = np.random.default_rng(1).integers(256, size=(3, 8, 8, 3))
    theirs = _forward(state, images, _SPEC, shape.get('blocks', 1))
    np.testing.assert_allclose(
      model(images.astype(np.uint8)), theirs, rtol=1e-4, atol=1e-4
    )

  def test_other_public_names_of_the_same_parts_are_known(self):
    state = _state(width=0.25)
    usual = torch_import.network(state, 'resnet8x0.25', _SPEC)
    other = torch_import.network(
      _renamed(state, shortcut='downsample', linear='fc'),
      'resnet8x0.25',
      _SPEC,
    )
    for one, two in zip(usual.weights, other.weights, strict=True):
      np.testing.assert_array_equal(one, two)

  @parameterized.parameters(
    ('wrn-10-2', _wide_state, _wide_forward, 16),
    ('vgg13', _vgg_state, _vgg_forward, 32),
  )
  def test_other_networks_logits_equal_pytorchs(
    self, network, make, forward, size
  ):
    spec = layers.Spec((size, size, 3), 5, _SPEC.mean, _SPEC.std)
    state = make()
    model = torch_import.network(state, network, spec)
    images = np.random.default_rng(1).integers(256, size=(2, size, size, 3))
    x = (images / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(
      model(images.astype(np.uint8)),
      forward(state, x.transpose(0, 3, 1, 2)),
      rtol=1e-3,
      atol=1e-3,
    )

  def test_imagenet_resnet_has_every_array_of_torchvisions(self):
    rng = np.random.default_rng(0)
    state = {
      'conv1.weight': _conv(rng, 64, 3, 7),
      **_norm(rng, 'bn1', 64),
      'fc.weight': rng.normal(size=(5, 512)),
      'fc.bias': rng.normal(size=5),
    }
    inputs = 64
    for group, channels in enumerate((64, 128, 256, 512), start=1):
      for block in (0, 1):
        name = f'layer{group}.{block}'
        state[f'{name}.conv1.weight'] = _conv(rng, channels, inputs, 3)
        state |= _norm(rng, f'{name}.bn1', channels)
        state[f'{name}.conv2.weight'] = _conv(rng, channels, channels, 3)
        state |= _norm(rng, f'{name}.bn2', channels)
        if inputs != channels:
          state[f'{name}.downsample.0.weight'] = _conv(rng, channels, inputs, 1)
          state |= _norm(rng, f'{name}.downsample.1', channels)
        inputs = channels
    spec = layers.Spec((64, 64, 3), 5, _SPEC.mean, _SPEC.std)
    model = torch_import.network(state, 'resnet18', spec)
    np.testing.assert_allclose(
      model.get_layer('g3b2_conv1').kernel,
      state['layer3.1.conv1.weight'].transpose(2, 3, 1, 0),
      rtol=1e-6,
    )
    np.testing.assert_allclose(
      model.get_layer('g4b1_shortcut_bn').moving_variance,
      state['layer4.0.downsample.1.running_var'],
      rtol=1e-6,
    )

  def test_half_precision_arrays_are_taken_too(self):
    state = {k: np.float16(v) for k, v in _state(width=0.25).items()}
    model = torch_import.network(state, 'resnet8x0.25', _SPEC)
    bias = model.get_layer('logits').bias
    self.assertEqual(bias.dtype, 'float32')
    np.testing.assert_array_equal(bias, np.float32(state['linear.bias']))

  @parameterized.parameters(
    ('conv1.weight', 'conv/kernel'),
    ('bn1.running_var', 'bn/moving_variance'),
    ('layer2.0.shortcut.0.weight', 'g2b1_shortcut_conv/kernel'),
    ('layer3.0.bn2.bias', 'g3b1_bn2/beta'),
    ('linear.bias', 'logits/bias'),
  )
  def test_missing_array_is_named(self, name, ours):
    state = _state(width=0.25)
    del state[name]
    self.assert_refused(
      state,
      f'do not match resnet8x0.25: {ours} has no array. Give the --network',
    )

  def test_extra_array_is_named(self):
    state = {**_state(width=0.25), 'layer4.0.conv1.weight': np.zeros(3)}
    self.assert_refused(state, 'layer4.0.conv1.weight is not in resnet8x0.25')
    state = {**_state(width=0.25), 'fc.bias': np.zeros(5)}
    self.assert_refused(state, 'fc.bias is not in resnet8x0.25')

  def test_array_of_another_shape_is_named_with_both(self):
    state = {**_state(width=0.25), 'bn1.weight': np.ones(6)}
    self.assert_refused(state, r'bn1.weight gives \(6,\) for \(4,\)')

  def test_other_number_of_classes_is_refused_by_shape(self):
    state = {
      **_state(width=0.25),
      'linear.weight': np.zeros((100, 16)),
      'linear.bias': np.zeros(100),
    }
    self.assert_refused(state, r'linear.bias gives \(100,\) for \(5,\)')

  @parameterized.parameters(
    # The arrays of one network given for another.
    ({}, 'resnet14x0.25', r'g1b2_conv1/kernel has no array'),
    ({'blocks': 2}, 'resnet8x0.25', r'layer1\.1\.conv1\.weight is not in'),
    ({}, 'resnet8', r'conv1\.weight gives \(3, 3, 3, 4\) for \(3, 3, 3, 16\)'),
    (
      {},
      'resnet8x0.25-parameter-free',
      r'layer2\.0\.shortcut\.0\.weight is not in resnet8x0.25-parameter-free',
    ),
    (
      {'projection': False},
      'resnet8x0.25',
      r'g2b1_shortcut_bn/moving_mean has no array',
    ),
    ({}, 'wrn-10-1', 'is not in wrn-10-1.* more. Give the --network'),
    ({}, 'alexnet', 'unknown network'),
    ({}, 'mine.keras', 'give a name, such as resnet56'),
  )
  def test_weights_of_another_network_are_refused(self, shape, network, wrong):
    self.assert_refused(_state(width=0.25, **shape), wrong, network)

  def test_shape_tells_channels_and_classes(self):
    self.assertEqual(torch_import.shape(_state()), (3, 5))
    self.assertEqual(torch_import.shape(_vgg_state()), (3, 5))
    with self.assertRaisesRegex(errors.UsageError, 'no dense layer'):
      torch_import.shape({'conv1.weight': np.zeros((1, 1, 3, 3))})


if __name__ == '__main__':
  absltest.main()
