#!/usr/bin/env python3
"""Trains a small Keras classifier on a folder of images, with Keras alone.

  python examples/make_teacher.py images teacher.keras

It stands for the teacher that you already have: a functional model that takes
raw images of 0 to 255, has its preprocessing inside and ends in a softmax.
"""

import argparse

import keras

_SIZE = 16
_EPOCHS = 20


def train(folder: str) -> keras.Model:
  """Returns a classifier trained on `<folder>/train/<class>/`."""
  keras.utils.set_random_seed(0)
  images = keras.utils.image_dataset_from_directory(
    f'{folder}/train',
    color_mode='grayscale',
    image_size=(_SIZE, _SIZE),
    batch_size=32,
    verbose=False,
  )
  x = inputs = keras.Input((_SIZE, _SIZE, 1))
  x = keras.layers.Rescaling(1 / 255)(x)
  for filters, strides in ((32, 1), (64, 2), (128, 2)):
    for stride in (strides, 1):
      x = keras.layers.Conv2D(
        filters, 3, strides=stride, padding='same', use_bias=False
      )(x)
      x = keras.layers.BatchNormalization(momentum=0.9)(x)
      x = keras.layers.ReLU()(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  outputs = keras.layers.Dense(len(images.class_names), 'softmax')(x)
  model = keras.Model(inputs, outputs, name='teacher')
  model.compile('adam', 'sparse_categorical_crossentropy')
  shifts = keras.layers.RandomTranslation(0.1, 0.1, fill_mode='constant')
  model.fit(images.map(lambda x, y: (shifts(x), y)), epochs=_EPOCHS, verbose=0)
  return model


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder')
  parser.add_argument('model', help='the .keras file to write')
  arguments = parser.parse_args()
  train(arguments.folder).save(arguments.model)


if __name__ == '__main__':
  main()
