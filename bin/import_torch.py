#!/usr/bin/env python3
"""Makes a .keras teacher of a PyTorch ResNet's state dict saved as .npz.

  bin/import_torch.py --weights=resnet56.npz --network=resnet56-parameter-free \
      --mean=0.485,0.456,0.406 --std=0.229,0.224,0.225 \
      --dataset=cifar10 --data_dir=DIR --workdir=runs/teacher

Leaves model.keras in the workdir and prints its accuracy on the test split. A
file whose arrays are not exactly the network's is refused.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import errors, evaluation, run_dir
from ft_tf.models import layers, torch_import

flags.DEFINE_string('weights', None, '.npz file (required)')
flags.DEFINE_string(
  'network', 'resnet56', 'network it was saved from (default: resnet56)'
)
flags.DEFINE_list(
  'mean',
  ['0.485', '0.456', '0.406'],
  'channel means of images in [0, 1] (default: 0.485,0.456,0.406)',
)
flags.DEFINE_list(
  'std',
  ['0.229', '0.224', '0.225'],
  'channel deviations of images in [0, 1] (default: 0.229,0.224,0.225)',
)
program.define_source()
flags.DEFINE_string('split', 'test', 'TFDS split (default: test)')
program.define_workdir('model.keras')


def main():
  weights = program.required('weights')
  workdir = program.required('workdir')
  run_dir.check_writable(workdir)
  source = program.source()
  try:
    mean, std = (
      tuple(float(v) for v in flags.FLAGS[name].value)
      for name in ('mean', 'std')
    )
  except ValueError as error:
    raise errors.UsageError(
      '--mean and --std take numbers with commas between them'
    ) from error
  model = torch_import.resnet_from_npz(
    weights,
    flags.FLAGS.network,
    layers.Spec(source.image_shape, len(source.label_names), mean, std),
  )
  scores = evaluation.evaluate(
    evaluation.KerasPredictor(model), source.read(flags.FLAGS.split)
  )
  path = os.path.join(os.path.abspath(workdir), 'model.keras')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with run_dir.replacing(path) as temporary:
    model.save(temporary)
  return {'model': path, **scores}


if __name__ == '__main__':
  program.run(main)
