#!/usr/bin/env python3
"""Makes a .keras teacher of a PyTorch checkpoint.

  bin/import_torch.py --weights=resnet56.th --network=resnet56-parameter-free \
      --mean=0.485,0.456,0.406 --std=0.229,0.224,0.225 \
      --dataset=cifar10 --data_dir=DIR --workdir=runs/teacher

Reads .pth, .pt, .th and .ckpt (with torch installed), .safetensors and .npz, of
any network that --student takes by our own name, and runs no code of the file.
Leaves model.keras in the workdir; with a data set its accuracy is printed. A
file whose arrays are not exactly the network's is refused.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import errors, run_dir
from ft_tf.evaluation import metrics, predictors
from ft_tf.models import checkpoints, layers, torch_import

flags.DEFINE_string(
  'weights',
  None,
  'checkpoint: .pth, .pt, .th, .ckpt, .safetensors or .npz (required)',
)
flags.DEFINE_string(
  'network', 'resnet56', 'network of the checkpoint (default: resnet56)'
)
flags.DEFINE_list(
  'mean',
  ['0.485', '0.456', '0.406'],
  'mean of each channel, for images scaled to 0-1 (default: 0.485,0.456,0.406)',
)
flags.DEFINE_list(
  'std',
  ['0.229', '0.224', '0.225'],
  'standard deviation of each channel, for images scaled to 0-1 (default: '
  '0.229,0.224,0.225)',
)
flags.DEFINE_integer(
  'image_size',
  0,
  "height and width of the images in pixels; 0: the data set's, without a data "
  'set 224 for resnet18 and resnet34 and 32 for all others (default: 0)',
  lower_bound=0,
)
program.define_source(required=False)
flags.DEFINE_string('split', 'test', 'TFDS split (default: test)')
program.define_workdir('output directory for model.keras')


def main():
  weights = program.required('weights')
  workdir = program.required('workdir')
  run_dir.check_writable(workdir)
  try:
    mean, std = (
      tuple(float(v) for v in flags.FLAGS[name].value)
      for name in ('mean', 'std')
    )
  except ValueError as error:
    raise errors.UsageError(
      '--mean and --std take numbers with commas between them'
    ) from error
  if not all(value > 0 for value in std):
    raise errors.UsageError(
      f'--std={",".join(map(str, std))}: give numbers above 0'
    )
  arrays = checkpoints.read(weights)
  channels, classes = torch_import.shape(arrays)
  network, size = flags.FLAGS.network, flags.FLAGS.image_size
  source = None
  if flags.FLAGS.dataset:
    source = program.source((None, None, channels))
    image_shape, classes = source.image_shape, len(source.label_names)
  else:
    size = size or (224 if network in ('resnet18', 'resnet34') else 32)
    image_shape = (size, size, channels)
  model = torch_import.network(
    arrays, network, layers.Spec(image_shape, classes, mean, std)
  )
  scores = {}
  if source is not None:
    scores = metrics.evaluate(
      predictors.KerasPredictor(model, given=weights),
      source.read(flags.FLAGS.split),
    )
  path = os.path.join(os.path.abspath(workdir), 'model.keras')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with run_dir.replacing(path) as temporary:
    model.save(temporary)
  return {'model': path, **scores}


if __name__ == '__main__':
  program.run(main)
