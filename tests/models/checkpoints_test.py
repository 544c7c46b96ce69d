"""Files of arrays: every format gives the same, and none runs code."""

import contextlib
import importlib
import importlib.util
import io
import os
import pickle
import zipfile

import numpy as np
from absl.testing import absltest, parameterized
from safetensors import numpy as safe

from ft_tf import errors
from ft_tf.models import checkpoints
from tests import networks

_ARRAYS = {
  'conv1.weight': np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2),
  'bn1.num_batches_tracked': np.array(7),
}
_HAS_TORCH = importlib.util.find_spec('torch') is not None


class Trap:
  """What raises ZeroDivisionError when it is unpickled."""

  def __reduce__(self):
    return (divmod, (1, 0))


class ReadTest(parameterized.TestCase):
  def _path(self, name):
    return os.path.join(self.create_tempdir().full_path, name)

  def _assert_read(self, path):
    found = checkpoints.read(path)
    self.assertEqual(found.keys(), _ARRAYS.keys())
    for name, array in _ARRAYS.items():
      np.testing.assert_array_equal(found[name], array)

  def _assert_refused(self, path, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      checkpoints.read(path)

  def test_npz_and_safetensors_give_their_arrays(self):
    npz, safetensors = self._path('w.npz'), self._path('w.safetensors')
    np.savez(npz, **_ARRAYS)
    safe.save_file(_ARRAYS, safetensors)
    self._assert_read(npz)
    self._assert_read(safetensors)

  def test_prefix_of_data_parallel_is_taken_off(self):
    path = self._path('w.npz')
    np.savez(path, **{f'module.{k}': v for k, v in _ARRAYS.items()})
    self._assert_read(path)

  @parameterized.parameters(
    'model.',
    'net.',
    '_orig_mod.',
    'model._orig_mod.',
    '_orig_mod.module.',
    'module.model._orig_mod.backbone.',
    '_fsdp_wrapped_module._orig_mod.',
  )
  def test_names_are_the_networks_own_whatever_held_it(self, prefix):
    network = networks.torch_resnet()
    state = {f'{prefix}{name}': value for name, value in network.items()}
    found, left_out = checkpoints.unwrapped(state)
    self.assertEqual(list(found), list(network))
    self.assertEmpty(left_out)

  def test_wrapper_within_a_network_is_taken_off(self):
    network = networks.torch_resnet()
    state = {
      f'model.{name}'.replace('layer2.0.', 'layer2._orig_mod.0.'): value
      for name, value in network.items()
    }
    self.assertNotEqual(list(state), list(network))
    self.assertEqual(list(checkpoints.unwrapped(state)[0]), list(network))

  def test_parts_of_a_networks_own_names_stay(self):
    # All convolutions of a VGG are in `features`, its dense layers are not.
    for prefix in ('', 'model.'):
      state = {
        f'{prefix}features.0.weight': np.zeros((4, 3, 3, 3)),
        f'{prefix}features.3.weight': np.zeros((4, 4, 3, 3)),
        f'{prefix}classifier.weight': np.zeros((5, 4)),
      }
      self.assertEqual(
        list(checkpoints.unwrapped(state)[0]),
        ['features.0.weight', 'features.3.weight', 'classifier.weight'],
      )

  def test_losses_and_metrics_are_left_out_and_named(self):
    network = networks.torch_resnet()
    path = self._path('lightning.npz')
    np.savez(
      path,
      **{f'net._orig_mod.{name}': value for name, value in network.items()},
      **{
        'criterion.weight': np.ones(5),
        'confusion.counts': np.ones((5, 5)),
        'n_averaged': np.array(3),
      },
    )
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
      found = checkpoints.read(path)
    self.assertEqual(list(found), list(network))
    self.assertRegex(
      said.getvalue(),
      r'^.*: ignored these arrays, .*: '
      r'criterion.weight, confusion.counts, n_averaged\n$',
    )

  @absltest.skipUnless(_HAS_TORCH, 'torch is not installed')
  def test_torch_files_give_their_state_dict_wherever_it_lies(self):
    torch = importlib.import_module('torch')

    state = {k: torch.tensor(v) for k, v in _ARRAYS.items()}
    for name, value in {
      'a.pth': state,
      'b.th': {'state_dict': state, 'best_prec1': 92.6},
      'd.ckpt': {
        'state_dict': {f'model._orig_mod.{k}': v for k, v in state.items()}
      },
      'c.pt': {'model': {f'module.{k}': v for k, v in state.items()}},
    }.items():
      path = self._path(name)
      torch.save(value, path)
      self._assert_read(path)
    path = self._path('d.pth')
    torch.save({'epoch': 3}, path)
    self._assert_refused(path, 'holds no state dict')

  @absltest.skipUnless(_HAS_TORCH, 'torch is not installed')
  def test_pickled_code_is_refused_and_not_run(self):
    torch = importlib.import_module('torch')

    path = self._path('trap.pth')
    torch.save({'state_dict': Trap()}, path)
    self._assert_refused(path, 'does not load as weights alone')
    with open(path, 'wb') as file:
      pickle.dump(Trap(), file)
    self._assert_refused(path, 'does not load as weights alone')

  @absltest.skipIf(_HAS_TORCH, 'torch is installed')
  def test_torch_is_asked_for(self):
    path = self.create_tempfile('w.pth').full_path
    self._assert_refused(path, 'pip install -r requirements-benchmark.txt')

  def test_pickled_arrays_are_refused_and_not_unpickled(self):
    path = self._path('w.npz')
    np.savez(path, **_ARRAYS, trap=np.array([Trap()], dtype=object))
    self._assert_refused(path, 'not a .npz file of plain arrays.*numpy.savez')

  def test_members_that_are_no_arrays_of_numbers_are_refused(self):
    path = self._path('w.npz')
    np.savez(path, **_ARRAYS)
    with zipfile.ZipFile(path, 'a') as archive:
      archive.writestr('x.npy', b'no array')
    self._assert_refused(path, 'not a .npz file of plain arrays')
    np.savez(path, **_ARRAYS, name=np.array(['x']))
    self._assert_refused(path, r"not of real numbers \('name'\)")

  def test_file_of_another_format_is_refused(self):
    folder = self.create_tempdir()
    text = folder.create_file('text.npz', 'hello').full_path
    empty = folder.create_file('empty.npz').full_path
    for path in (text, empty):
      self._assert_refused(path, 'not a .npz file of plain arrays')
    # A zip like .npz, of pickled and raw members.
    mixed = self._path('mixed.npz')
    with zipfile.ZipFile(mixed, 'w') as file:
      file.writestr('archive/data.pkl', b'\x80\x02}q\x00.')
    self._assert_refused(mixed, 'not a .npz file of plain arrays')
    text = folder.create_file('text.safetensors', 'hello').full_path
    self._assert_refused(text, 'not a .safetensors file')
    text = folder.create_file('text.h5', 'hello').full_path
    self._assert_refused(text, 'give a .npz, .safetensors, .pth')
    self._assert_refused('/nowhere/w.npz', 'there is no file .*give --weights')


if __name__ == '__main__':
  absltest.main()
