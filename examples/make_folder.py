#!/usr/bin/env python3
"""Writes a folder of real images: scikit-learn's handwritten digits as PNG.

  python examples/make_folder.py images

Leaves images/train/<class>/ with 600 images and images/test/<class>/ with
1,197, most of them by writers of whom train/ has no image. The images are
grey, 16x16 pixels. With --unlabeled=300, 300 of the training images go to
the folder images_unlabeled instead, without their class.
"""

import argparse
import os

import numpy as np
from PIL import Image
from sklearn import datasets

CLASSES = (
  'zero',
  'one',
  'two',
  'three',
  'four',
  'five',
  'six',
  'seven',
  'eight',
  'nine',
)
_TRAINING = 600
_SIZE = 16


def write(folder: str, unlabeled: int = 0) -> None:
  """Writes the images.

  Args:
    folder: The folder that gets train/ and test/.
    unlabeled: Number of training images that go to `<folder>_unlabeled`
      instead, without a class.
  """
  digits = datasets.load_digits()
  for number, (pixels, label) in enumerate(
    zip(digits.images, digits.target, strict=True)
  ):
    if number < unlabeled:
      path = os.path.join(f'{folder}_unlabeled', f'{number:04}.png')
    else:
      split = 'train' if number < _TRAINING else 'test'
      path = os.path.join(folder, split, CLASSES[label], f'{number:04}.png')
    os.makedirs(os.path.dirname(path), exist_ok=True)
    values = np.round(pixels * (255 / 16)).astype(np.uint8)
    image = Image.fromarray(values)
    image.resize((_SIZE, _SIZE), Image.Resampling.BILINEAR).save(path)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder')
  parser.add_argument('--unlabeled', type=int, default=0)
  arguments = parser.parse_args()
  write(arguments.folder, arguments.unlabeled)


if __name__ == '__main__':
  main()
