"""Imported ResNets against PyTorch's arithmetic, written out in numpy."""

import os
import zipfile

import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import errors
from ft_tf.models import layers, torch_import

_SPEC = layers.Spec((8, 8, 3), 5, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Names and layouts below are PyTorch's: kernels [O, I, h, w], dense [O, I],
# images [B, C, H, W].


def _conv(rng, outputs, inputs, size):
  bound = 1 / np.sqrt(inputs * size * size)
  return rng.uniform(-bound, bound, size=(outputs, inputs, size, size))


def _norm(rng, name, channels):
  return {
    f'{name}.weight': rng.uniform(0.5, 1.5, size=channels),
    f'{name}.bias': rng.normal(size=channels),
    f'{name}.running_mean': 0.3 * rng.normal(size=channels),
    f'{name}.running_var': rng.uniform(0.2, 2, size=channels),
    f'{name}.num_batches_tracked': np.array(7),
  }


def _state(*, blocks=1, width=1.0, projection=True, seed=0):
  """Returns the state dict of a ResNet of 6 * blocks + 2 layers."""
  rng = np.random.default_rng(seed)
  inputs = round(16 * width)
  state = {
    'conv1.weight': _conv(rng, inputs, 3, 3),
    **_norm(rng, 'bn1', inputs),
  }
  for group in (1, 2, 3):
    channels = round(16 * width) * 2 ** (group - 1)
    for block in range(blocks):
      name = f'layer{group}.{block}'
      state[f'{name}.conv1.weight'] = _conv(rng, channels, inputs, 3)
      state |= _norm(rng, f'{name}.bn1', channels)
      state[f'{name}.conv2.weight'] = _conv(rng, channels, channels, 3)
      state |= _norm(rng, f'{name}.bn2', channels)
      if projection and inputs != channels:
        state[f'{name}.shortcut.0.weight'] = _conv(rng, channels, inputs, 1)
        state |= _norm(rng, f'{name}.shortcut.1', channels)
      inputs = channels
  state['linear.weight'] = rng.normal(size=(5, inputs))
  state['linear.bias'] = rng.normal(size=5)
  return state


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


class ResNetFromNpzTest(parameterized.TestCase):
  def _saved(self, arrays, name='weights.npz'):
    path = os.path.join(self.create_tempdir().full_path, name)
    np.savez(path, **arrays)
    return path

  def assert_refused(self, path, message, network='resnet8x0.25', spec=_SPEC):
    with self.assertRaisesRegex(errors.UsageError, message):
      torch_import.resnet_from_npz(path, network, spec)

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
    model = torch_import.resnet_from_npz(self._saved(state), network, _SPEC)
    images = np.random.default_rng(1).integers(256, size=(3, 8, 8, 3))
    theirs = _forward(state, images, _SPEC, shape.get('blocks', 1))
    np.testing.assert_allclose(
      model(images.astype(np.uint8)), theirs, rtol=1e-4, atol=1e-4
    )

  def test_half_precision_arrays_are_taken_too(self):
    state = {k: np.float16(v) for k, v in _state(width=0.25).items()}
    model = torch_import.resnet_from_npz(
      self._saved(state), 'resnet8x0.25', _SPEC
    )
    bias = model.get_layer('logits').bias
    self.assertEqual(bias.dtype, 'float32')
    np.testing.assert_array_equal(bias, np.float32(state['linear.bias']))

  @parameterized.parameters(
    'conv1.weight',
    'bn1.running_var',
    'layer2.0.shortcut.0.weight',
    'layer3.0.bn2.bias',
    'linear.bias',
  )
  def test_missing_array_is_named(self, name):
    state = _state(width=0.25)
    del state[name]
    self.assert_refused(
      self._saved(state),
      f'does not match resnet8x0.25: {name} is missing. Give the --network',
    )

  def test_extra_array_is_named(self):
    state = {**_state(width=0.25), 'layer4.0.conv1.weight': np.zeros(3)}
    self.assert_refused(
      self._saved(state), 'layer4.0.conv1.weight is not in resnet8x0.25'
    )

  def test_array_of_another_shape_is_named_with_both(self):
    state = {**_state(width=0.25), 'bn1.weight': np.ones(6)}
    self.assert_refused(
      self._saved(state), r'bn1.weight gives \(6,\) for \(4,\)'
    )

  def test_other_number_of_classes_is_refused_by_shape(self):
    state = {
      **_state(width=0.25),
      'linear.weight': np.zeros((100, 16)),
      'linear.bias': np.zeros(100),
    }
    self.assert_refused(
      self._saved(state), r'linear.bias gives \(100,\) for \(5,\)'
    )

  @parameterized.parameters(
    # The arrays of one network given for another.
    ({}, 'resnet14x0.25', r'layer1\.1\.conv1\.weight is missing'),
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
      r'layer2\.0\.shortcut\.1\.running_mean is missing',
    ),
  )
  def test_weights_of_another_network_are_refused(self, shape, network, wrong):
    path = self._saved(_state(width=0.25, **shape))
    self.assert_refused(path, f'{wrong}.*Give the --network', network)

  @parameterized.parameters('vgg13', 'wrn-10-1', 'alexnet')
  def test_network_that_is_no_resnet_is_refused(self, network):
    spec = layers.Spec((32, 32, 3), 5, _SPEC.mean, _SPEC.std)
    path = self._saved(_state(width=0.25))
    self.assert_refused(path, network, network, spec)

  def test_missing_file_is_refused(self):
    self.assert_refused(
      '/nowhere/weights.npz', 'there is no file .*give --weights, a .npz file'
    )

  def test_pickled_arrays_are_refused_and_not_unpickled(self):
    # Unpickling this would raise ZeroDivisionError.
    class Trap:
      def __reduce__(self):
        return (divmod, (1, 0))

    arrays = {
      **_state(width=0.25),
      'linear.bias': np.array([Trap()], dtype=object),
    }
    self.assert_refused(
      self._saved(arrays), 'not a .npz file of plain arrays.*numpy.savez'
    )

  def test_file_of_another_format_is_refused(self):
    folder = self.create_tempdir()
    text = folder.create_file('text.npz', 'hello').full_path
    single = os.path.join(folder.full_path, 'single.npy')
    np.save(single, np.zeros(3))
    empty = folder.create_file('empty.npz').full_path
    for path in (text, single, empty, folder.full_path):
      with self.subTest(path):
        self.assert_refused(path, 'not a .npz file of plain arrays')

  def test_file_of_torch_save_is_refused(self):
    # A zip like .npz, of pickled and raw members.
    path = os.path.join(self.create_tempdir().full_path, 'model.pth')
    with zipfile.ZipFile(path, 'w') as file:
      file.writestr('archive/data.pkl', b'\x80\x02}q\x00.')
      file.writestr('archive/data/0', np.zeros(4, np.float32).tobytes())
    self.assert_refused(path, 'not a .npz file of plain arrays.*numpy.savez')


if __name__ == '__main__':
  absltest.main()
