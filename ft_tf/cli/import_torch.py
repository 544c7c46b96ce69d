r"""Converts a PyTorch checkpoint into a .keras teacher.

  ft-tf import-torch --weights=resnet56.th --network=resnet56-parameter-free \
      --mean=0.485,0.456,0.406 --std=0.229,0.224,0.225 \
      --dataset=cifar10 --data_dir=DIR --workdir=runs/teacher

Reads .pth, .pt, .th and .ckpt (with torch installed), .safetensors and .npz, of
any built-in network (not those of keras.applications), and runs no code of the
file. Leaves model.keras in the workdir; with a data set its accuracy is
printed. A file whose arrays are not exactly the network's is refused.
"""

import os

from absl import flags

from ft_tf import errors, run_dir, sizes, storage
from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import checkpoints, layers, torch_import


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define(
    values,
    flag_sets.REQUIRED,
    'weights',
    None,
    'checkpoint: .pth, .pt, .th, .ckpt, .safetensors or .npz',
  )
  flag_sets.define_workdir(values, 'output directory for model.keras')
  flag_sets.define(
    values,
    flag_sets.MODELS,
    'network',
    'resnet56',
    'network of the checkpoint',
  )
  flag_sets.define(
    values,
    flag_sets.DATA,
    'mean',
    ['0.485', '0.456', '0.406'],
    'mean of each channel, for images scaled to 0-1',
  )
  flag_sets.define(
    values,
    flag_sets.DATA,
    'std',
    ['0.229', '0.224', '0.225'],
    'standard deviation of each channel, for images scaled to 0-1',
  )
  flag_sets.define(
    values,
    flag_sets.DATA,
    'image_size',
    '0',
    'size of the images in pixels, such as 96 or 96x160 (height x width); 0: '
    "the data set's, without a data set 224 for resnet18 and resnet34 and 32 "
    'for all others',
  )
  flag_sets.define_source(values, required=False)
  flag_sets.define(values, flag_sets.DATA, 'split', 'test', 'TFDS split')


def run(values: flags.FlagValues) -> outcome.Outcome:
  weights = settings.required(values, 'weights')
  workdir = settings.required(values, 'workdir')
  run_dir.check_writable(workdir)
  mean, std = _read_statistics(values)
  arrays = checkpoints.read(weights)
  channels, classes = torch_import.shape(arrays)
  network, size = values.network, settings.read_image_size(values)
  source = None
  if values.dataset:
    source = settings.read_source(values, (None, None, channels))
    image_shape, classes = source.image_shape, len(source.label_names)
  else:
    size = size or (224 if network in ('resnet18', 'resnet34') else 32)
    image_shape = (*sizes.height_and_width(size), channels)
  model = torch_import.network(
    arrays, network, layers.Spec(image_shape, classes, mean, std)
  )
  scores = {}
  if source is not None:
    scores = metrics.evaluate(
      predictors.KerasPredictor(model, given=weights),
      source.read(values.split),
    )
  path = os.path.join(os.path.abspath(workdir), 'model.keras')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with storage.replacing(path) as temporary:
    model.save(temporary)
  text = f'Teacher:  {path}'
  if scores:
    text = f'{outcome.format_accuracy(scores)}\n{text}'
  return outcome.Outcome({'model': path, **scores}, text)


def _read_statistics(
  values: flags.FlagValues,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns the mean and the standard deviation of each channel."""
  try:
    mean, std = (
      tuple(float(v) for v in values[name].value) for name in ('mean', 'std')
    )
  except ValueError as error:
    raise errors.UsageError(
      '--mean and --std take numbers separated by commas'
    ) from error
  if not all(value > 0 for value in std):
    raise errors.UsageError(
      f'--std={",".join(map(str, std))}: give numbers above 0'
    )
  return mean, std
