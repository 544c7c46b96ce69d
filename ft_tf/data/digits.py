"""A TFDS builder of real handwritten digits that needs no download."""

import numpy as np
import tensorflow_datasets as tfds

SPLITS = ('train', 'test')
_TEST = 1197  # images


class Digits(tfds.core.GeneratorBasedBuilder):
  """The 1,797 digits of 8x8 pixels that scikit-learn ships.

  The first 600 of scikit-learn's file are `train`, the other 1,197 are `test`.
  The file is sorted by writer, so that most test digits are from writers who
  are not in `train`. The 17 grey levels are scaled to 0..255.
  """

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Handwritten digits, 8x8 pixels, from scikit-learn.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(8, 8, 1)),
          'label': tfds.features.ClassLabel(num_classes=10),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://archive.ics.uci.edu/dataset/80',
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    # A slow import, which only the preparation needs.
    from sklearn import datasets  # noqa: PLC0415

    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    first = len(images) - _TEST
    parts = (
      self._generate_examples(images[:first], digits.target[:first]),
      self._generate_examples(images[first:], digits.target[first:]),
    )
    return dict(zip(SPLITS, parts, strict=True))

  def _generate_examples(self, images, labels):
    for key, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield key, {'image': image, 'label': int(label)}
