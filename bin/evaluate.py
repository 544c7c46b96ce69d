#!/usr/bin/env python3
"""Prints the accuracy of a .keras file, a SavedModel or a .tflite file.

Images are converted to the size and channels that the model takes, in the way
that its run or export folder records, otherwise as bin/compress.py does without
a recipe. The last line of output is JSON: accuracy (0 to 1), loss (mean cross
entropy, nats) and the number of examples.

  bin/evaluate.py --dataset=digits --model=runs/export/student_int8.tflite
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from absl import flags

from bin import program
from ft_tf.evaluation import metrics, predictors
from ft_tf.data import datasets

flags.DEFINE_string(
  'model', None, '.keras or .tflite file, or SavedModel folder (required)'
)
program.define_loading()
program.define_source()
program.define_image_size()
flags.DEFINE_string('split', 'test', 'TFDS split (default: test)')


def main():
  path = program.required('model')
  program.required('dataset')
  predict = predictors.open_predictor(path)
  source = program.source(predict.image_shape, model=path)
  dataset = datasets.Dataset(source, test_split=flags.FLAGS.split)
  examples = dataset.for_model(predict.image_shape).test
  metrics.check_classes(predict, examples, source.label_names)
  return metrics.evaluate(predict, examples)


if __name__ == '__main__':
  program.run(main)
