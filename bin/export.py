#!/usr/bin/env python3
"""Exports a student to SavedModel and TFLite, and measures every file.

  bin/export.py --model=runs/student/model.keras --dataset=digits \
      --workdir=runs/student

Leaves export/ in the workdir; an export of the same model that is already there
is printed as it stands. Images are converted to the size and channels that the
model takes, in the way that its run records, otherwise as bin/compress.py does
without a recipe.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import run_dir
from ft_tf.evaluation import predictors
from ft_tf.data import datasets
from ft_tf.export import student

flags.DEFINE_string('model', None, 'trained .keras file (required)')
program.define_loading()
program.define_source()
program.define_image_size()
program.define_workdir('output directory; the files are in its folder export/')
flags.DEFINE_string(
  'train_split',
  'train',
  'TFDS split of the calibration images for int8 (default: train)',
)
flags.DEFINE_string(
  'test_split', 'test', 'TFDS split to measure accuracy on (default: test)'
)


def main():
  model = program.required('model')
  workdir = program.required('workdir')
  run_dir.check_writable(workdir)
  program.required('dataset')
  source = program.source(
    predictors.open_predictor(model).image_shape, model=model
  )
  dataset = datasets.Dataset(
    source,
    train_split=flags.FLAGS.train_split,
    test_split=flags.FLAGS.test_split,
  )
  return student.export(model, dataset, os.path.join(workdir, 'export'))


if __name__ == '__main__':
  program.run(main)
