"""Arrays out of files that PyTorch users save, without running their code."""

import collections
import importlib
import os
import sys
import zipfile

import numpy as np
from safetensors import numpy as safe

from ft_tf import errors, paths
from ft_tf.models import file_limits

# Keys that scripts put a state dict under.
_CONTAINERS = ('state_dict', 'model_state_dict', 'model', 'net')
_PICKLED = ('.pth', '.pt', '.th', '.tar', '.ckpt', '.bin')
# Parts of a name, at any place in it, that come from wrappers: torch.compile,
# FSDP, activation checkpointing.
_WRAPPERS = {
  '_orig_mod',
  '_fsdp_wrapped_module',
  '_checkpoint_wrapped_module',
}


def read(path: str) -> dict[str, np.ndarray]:
  """Returns the arrays of a state dict by name.

  Args:
    path: A `.npz`, a `.safetensors`, or what `torch.save` wrote (`.pth`, `.pt`,
      `.th`, `.pth.tar`, `.bin`, Lightning's `.ckpt`), for which torch must be
      installed. The state dict may be inside a script's own dict, under
      `state_dict`, `model` or `net`; for names see `unwrapped`.

  Raises:
    UsageError: there is no such file, or it does not hold plain arrays alone.
  """
  paths.check_regular(path, '--weights=')
  if not os.path.isfile(path):
    raise errors.UsageError(f'there is no file {path}: give --weights')
  file_limits.check_archive(path)
  if path.endswith('.npz'):
    arrays = _of_npz(path)
  elif path.endswith('.safetensors'):
    arrays = _of_safetensors(path)
  elif path.endswith(_PICKLED):
    arrays = _of_torch(path)
  else:
    raise errors.UsageError(
      f'--weights={path}: give a .npz, .safetensors, .pth, .pt, .th or .ckpt '
      'file'
    )
  strange = [name for name, v in arrays.items() if v.dtype.kind not in 'fiub']
  if strange:
    raise errors.UsageError(
      f'{path} has arrays that are not of real numbers '
      f'({", ".join(map(repr, strange[:3]))}): save the state dict of the '
      'network alone'
    )
  arrays, ignored = unwrapped(arrays)
  if ignored:
    print(
      f'{path}: ignored these arrays, which are outside of the network: '
      + ', '.join(ignored),
      file=sys.stderr,
      flush=True,
    )
  return arrays


def unwrapped(
  arrays: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], list[str]]:
  """Returns a network's arrays by its own names, and the names of the others.

  Scripts keep the network inside of something else, whose name comes first:
  `module.` of DataParallel, `model.` or `net.` of a Lightning module, which may
  hold losses and metrics too. The prefix that is removed is the longest that
  all convolutions and at least one dense layer share, or that all arrays share.
  Parts from wrappers, such as `_orig_mod.` of torch.compile, are removed
  wherever they are.

  Args:
    arrays: A state dict.
  """
  arrays = {
    '.'.join(part for part in name.split('.') if part not in _WRAPPERS): value
    for name, value in arrays.items()
  }
  kernels, dense = (
    [name for name, value in arrays.items() if value.ndim == n] for n in (4, 2)
  )
  parts = kernels[0].split('.')[:-2] if kernels else []
  prefixes = (
    ''.join(f'{part}.' for part in parts[:count])
    for count in range(len(parts), -1, -1)
  )
  prefix = next(
    each
    for each in prefixes
    if all(name.startswith(each) for name in kernels)
    and (
      any(name.startswith(each) for name in dense)
      or all(name.startswith(each) for name in arrays)
    )
  )
  return (
    {
      name.removeprefix(prefix): value
      for name, value in arrays.items()
      if name.startswith(prefix)
    },
    [name for name in arrays if not name.startswith(prefix)],
  )


def _of_npz(path):
  try:
    with zipfile.ZipFile(path) as file:
      if not all(name.endswith('.npy') for name in file.namelist()):
        raise ValueError('not the members of a .npz file')
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
    # Of a member that is no array numpy gives the bytes.
    if not all(isinstance(each, np.ndarray) for each in arrays.values()):
      raise ValueError('not arrays')
    return arrays
  except Exception as error:  # Of damaged headers numpy raises many kinds.
    raise errors.UsageError(
      f'{path} is not a .npz file of plain arrays: save the state dict with '
      'numpy.savez'
    ) from error


def _of_safetensors(path):
  try:
    return safe.load_file(path)
  except Exception as error:  # safetensors' and numpy's kinds
    raise errors.UsageError(
      f'{path} is not a .safetensors file that numpy can hold ({error}): save '
      'the state dict in float32 with safetensors.torch.save_file'
    ) from error


def _of_torch(path):
  try:
    torch = importlib.import_module('torch')  # optional, for these files alone
  except ImportError as error:
    raise errors.UsageError(
      f'reading {path} requires torch: `pip install -r '
      'requirements-benchmark.txt`, or save it as .safetensors where torch is'
    ) from error
  try:
    loaded = torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # torch raises many kinds, down to zipfile's.
    reason = errors.first_line(error)
    raise errors.UsageError(
      f'{path} does not load as weights alone ({reason}), and code in it is '
      'not run: save its state_dict() with torch.save'
    ) from error
  state = loaded
  for key in _CONTAINERS:
    if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
      state = loaded[key]
      break
  if not isinstance(state, collections.abc.Mapping) or not all(
    isinstance(value, torch.Tensor) for value in state.values()
  ):
    raise errors.UsageError(
      f'{path} holds no state dict, nor one under '
      f'{", ".join(_CONTAINERS)}: save state_dict() with torch.save'
    )
  return {
    name: (value.float() if value.is_floating_point() else value).numpy()
    for name, value in state.items()
  }
