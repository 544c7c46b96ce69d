"""Prints the accuracy of a model file or a SavedModel.

  ft-tf evaluate --dataset=digits --model=runs/demo/export/student_int8.tflite

Images are converted to the size and channels that the model takes, in the way
that its run or export folder records, otherwise as compress does without a
recipe. The result has the accuracy (0 to 1), the loss (mean cross entropy,
nats) and the number of examples.
"""

import os

from absl import flags

from ft_tf.cli import flag_sets, outcome, settings
from ft_tf.data import datasets
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import memory


def define_flags(values: flags.FlagValues) -> None:
  flag_sets.define_model(values, '.keras or .tflite file, or SavedModel folder')
  flag_sets.define_source(values)
  flag_sets.define_image_size(values)
  flag_sets.define(values, flag_sets.DATA, 'split', 'test', 'TFDS split')


def run(values: flags.FlagValues) -> outcome.Outcome:
  path = settings.required(values, 'model')
  settings.required(values, 'dataset')
  if path.endswith('.tflite') and os.path.isfile(path):
    memory.check_survives(path)
  predict = predictors.open_predictor(path)
  source = settings.read_source(values, predict.image_shape, model=path)
  dataset = datasets.Dataset(source, test_split=values.split)
  dataset = dataset.for_model(predict.image_shape)
  predict.check_shape(dataset.image_shape)
  examples = dataset.test
  metrics.check_classes(predict, examples, source.label_names)
  scores = metrics.evaluate(predict, examples)
  return outcome.Outcome(scores, outcome.format_accuracy(scores))
