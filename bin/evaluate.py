#!/usr/bin/env python3
"""Prints the accuracy of a .keras file, a SavedModel or a .tflite file.

The last line of its output is JSON: accuracy (0 to 1), loss (mean cross entropy,
nats) and the number of examples.

  bin/evaluate.py --dataset=digits --model=runs/export/student_int8.tflite
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf import evaluation
from ft_tf.data import datasets

flags.DEFINE_string(
  'model', None, '.keras or .tflite file, or SavedModel folder (required)'
)
flags.DEFINE_string('dataset', None, 'TFDS name, or digits (required)')
program.define_data_dir()
flags.DEFINE_string('split', 'test', 'TFDS split (default: test)')
flags.DEFINE_integer(
  'image_size', 0, 'resize images to this size; 0 keeps them (default: 0)'
)


def main():
  path = program.required('model')
  source = datasets.Source(
    program.required('dataset'),
    data_dir=flags.FLAGS.data_dir,
    image_size=flags.FLAGS.image_size,
  )
  predict = evaluation.predictor(path)
  return evaluation.evaluate(predict, source.read(flags.FLAGS.split))


if __name__ == '__main__':
  program.run(main)
