#!/usr/bin/env python3
"""Holds a student's int8 file against its twin, image by image.

  python examples/twin_and_file.py --model=runs/phone/export/student.keras \
      --dataset=digits

Quantisation-aware training trains a twin of the student, which computes in
float32 what the int8 file computes in integers. This makes both of a trained
student, with the ranges of 512 training images, and prints how far their logits
are apart on up to 1,000 test images, in steps of the file's output.
"""

import argparse
import os
import tempfile

import keras
import numpy as np

from ft_tf.data import datasets, sampling, sources
from ft_tf.evaluation import device_files, metrics, predictors
from ft_tf.export import quantised
from ft_tf.quantisation import twin as twins

_CALIBRATION_IMAGES = 512
_TEST_IMAGES = 1000


def measure(
  student: keras.Model, dataset: datasets.Dataset, weight_scales: str
) -> list[str]:
  """Returns the cells of the table's row.

  Args:
    student: Trained, from raw images to logits.
    dataset: The ranges are of its training images; its test images are
      compared.
    weight_scales: As of `twin.build`.
  """
  test = sampling.sample(dataset.test, _TEST_IMAGES)
  twin = twins.build(student, weight_scales=weight_scales)
  twin.observe(sampling.sample(dataset.train, _CALIBRATION_IMAGES).images[:])
  simulated = metrics.logits(predictors.KerasPredictor(twin.model), test.images)
  in_float = metrics.logits(predictors.KerasPredictor(student), test.images)
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'student.tflite')
    with open(path, 'wb') as file:
      file.write(quantised.tflite(twin))
    predict = device_files.LiteRTPredictor(path)
    outputs = metrics.logits(predict, test.images)
  steps = np.abs(np.round((outputs - simulated) / predict.output_step))
  classes = [each.argmax(axis=1) for each in (in_float, simulated, outputs)]
  accuracies = [100 * (each == test.labels).mean() for each in classes]
  return [
    weight_scales,
    f'{len(test):,}',
    *(f'{accuracy:.2f}' for accuracy in accuracies),
    f'{100 * (classes[1] == classes[2]).mean():.2f}',
    f'{100 * (steps == 0).mean():.2f}',
    f'{100 * (steps <= 1).mean():.2f}',
    f'{steps.max():.0f}',
  ]


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', required=True)
  parser.add_argument('--dataset', required=True)
  parser.add_argument('--data_dir')
  arguments = parser.parse_args()
  student = keras.saving.load_model(arguments.model)
  source = sources.Source(
    arguments.dataset,
    data_dir=arguments.data_dir,
    image_size=student.input_shape[1],
    resizing='stretch',
  )
  header = [
    'weight scales',
    'images',
    'Keras %',
    'twin %',
    'file %',
    'same class %',
    'equal logits %',
    'within 1 step %',
    'most steps',
  ]
  dataset = datasets.Dataset(source)
  rows = [measure(student, dataset, each) for each in twins.WEIGHT_SCALES]
  for cells in (header, ['---:'] * len(header), *rows):
    print(f'| {" | ".join(cells)} |')


if __name__ == '__main__':
  main()
