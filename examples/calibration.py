#!/usr/bin/env python3
"""Measures an int8 file by the number of its calibration images.

  python examples/calibration.py --model=runs/phone/export/student.keras \
      --dataset=digits

Converts a student with 20, 100 and 1,000 training images (or all, if there are
fewer), several times with other images, and prints a table: accuracy on the
test split, agreement with the Keras student, and differences of logits. A count
that takes all images is measured once.
"""

import argparse
import os
import tempfile

import keras
import numpy as np

from ft_tf.data import datasets, sampling, sources
from ft_tf.evaluation import metrics, predictors
from ft_tf.export import formats

_COUNTS = (20, 100, 1000)


def measure(
  model: str, dataset: datasets.Dataset, draws: int
) -> list[list[str]]:
  """Returns the rows of the table, one per number of images.

  Args:
    model: A `.keras` student that takes raw images.
    dataset: Calibrates on its training images, measures on its test images.
    draws: How many times other images are drawn.
  """
  student = keras.saving.load_model(model)
  test = dataset.test
  wanted = metrics.logits(predictors.KerasPredictor(student), test.images)
  in_keras = (wanted.argmax(axis=1) == test.labels).mean()
  print(f'{len(test)} test images, Keras: {100 * in_keras:.2f} %\n')
  counts = sorted({min(count, len(dataset.train)) for count in _COUNTS})
  return [
    [f'{count:,}', *_row(student, dataset, count, draws, wanted)]
    for count in counts
  ]


def _row(
  student: keras.Model,
  dataset: datasets.Dataset,
  count: int,
  draws: int,
  wanted: np.ndarray,
) -> list[str]:
  if count == len(dataset.train):
    draws = 1  # There are no others.
  figures = []
  for seed in range(draws):
    chosen = sampling.sample(dataset.train, count, seed=seed)
    content = formats.FORMATS['int8'].make(
      formats.Source(student, chosen.images[:])
    )
    with tempfile.TemporaryDirectory() as folder:
      path = os.path.join(folder, 'calibrated.tflite')
      with open(path, 'wb') as file:
        file.write(content)
      predict = predictors.open_predictor(path)
      outputs = metrics.logits(predict, dataset.test.images)
    classes = outputs.argmax(axis=1)
    figures.append(
      (
        100 * (classes == dataset.test.labels).mean(),
        100 * (classes == wanted.argmax(axis=1)).mean(),
        np.abs(outputs - wanted).mean(),
        np.abs(outputs - wanted).max(),
      )
    )
  accuracy, agreement, mean, most = zip(*figures, strict=True)
  return [
    str(draws),
    f'{np.mean(accuracy):.2f}',
    f'{min(accuracy):.2f} to {max(accuracy):.2f}',
    f'{np.mean(agreement):.2f}',
    f'{np.mean(mean):.3f}',
    f'{max(most):.2f}',
  ]


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', required=True)
  parser.add_argument('--dataset', required=True)
  parser.add_argument('--data_dir')
  parser.add_argument('--draws', type=int, default=5)
  arguments = parser.parse_args()
  size = keras.saving.load_model(arguments.model).input_shape[1]
  source = sources.Source(
    arguments.dataset,
    data_dir=arguments.data_dir,
    image_size=size,
    resizing='stretch',
  )
  rows = measure(arguments.model, datasets.Dataset(source), arguments.draws)
  header = [
    'images',
    'draws',
    'accuracy %',
    'least to most',
    'agreement %',
    'mean difference',
    'largest',
  ]
  for cells in (header, ['---:'] * len(header), *rows):
    print(f'| {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
