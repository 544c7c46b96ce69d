"""The picture of feature maps: known pixels, labels."""

import numpy as np
from absl.testing import absltest

from ft_tf.training import mosaic

_TILE, _LEFT, _TOP = mosaic.TILE, mosaic.LEFT, mosaic.TOP
_BLOCK = 3 * _TILE + mosaic.GAP
_NAMES = ('teacher factor', 'student factor')


def _draw(images, first, second):
  return mosaic.draw(images, first, second, names=_NAMES)


def _rows(picture, number):
  """Returns the three rows of maps of an image, without its input."""
  top = _TOP + number * _BLOCK
  maps = picture[top : top + 3 * _TILE, _LEFT + _TILE :]
  return np.split(maps, 3)


class MosaicTest(absltest.TestCase):
  def test_picture_has_each_image_and_both_networks_maps_below_each_other(self):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1] = 255
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 12))
    picture = _draw(images, maps, maps)
    self.assertEqual(picture.shape, (_TOP + 2 * _BLOCK, _LEFT + 9 * _TILE, 3))
    self.assertEqual(picture.dtype, np.uint8)
    inputs = [
      picture[_TOP + top : _TOP + top + _TILE, _LEFT : _LEFT + _TILE]
      for top in (0, _BLOCK)
    ]
    self.assertEqual(inputs[0].max(), 0)
    self.assertEqual(inputs[1][1:-1, 1:-1].min(), 255)
    # Equal maps look equal, and another scale of a factor changes nothing.
    for number in (0, 1):
      teacher, student, difference = _rows(picture, number)
      self.assertGreater(teacher.std(), 0)
      np.testing.assert_array_equal(teacher, student)
      self.assertEqual(difference.max(), 0)
    np.testing.assert_array_equal(_draw(images, maps, 5 * maps), picture)

  def test_every_row_and_column_has_a_label(self):
    images, maps = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 2, 2, 3))
    picture = _draw(images, maps, maps)
    self.assertEqual(picture[0, 0].tolist(), [255, 255, 255])
    for column in range(4):
      left = _LEFT + column * _TILE
      heading = picture[:_TOP, left : left + _TILE]
      self.assertLess(heading.min(), 100, f'column {column} has no heading')
    for row in range(3):
      top = _TOP + row * _TILE
      label = picture[top : top + _TILE, :_LEFT]
      self.assertLess(label.min(), 100, f'row {row} has no label')
      # It ends before the maps begin.
      self.assertEqual(label[:, -3:].min(), 255)
    other = mosaic.draw(images, maps, maps, names=('teacher map', 'rebuilt'))
    self.assertFalse(np.array_equal(other[:, :_LEFT], picture[:, :_LEFT]))
    np.testing.assert_array_equal(other[:, _LEFT:], picture[:, _LEFT:])

  def test_dead_maps_are_drawn(self):
    zeros = np.zeros((1, 2, 2, 3))
    picture = _draw(np.zeros((1, 8, 8, 3), np.uint8), zeros, zeros)
    for row in _rows(picture, 0):
      self.assertEqual(row.max(), 0)

  def test_difference_shows_where_the_maps_differ(self):
    first = np.zeros((1, 2, 2, 1))
    first[0, 0, 0, 0] = first[0, 1, 1, 0] = 1
    second = np.zeros((1, 2, 2, 1))
    second[0, 0, 0, 0] = second[0, 0, 1, 0] = 1
    picture = _draw(np.zeros((1, 8, 8, 3), np.uint8), first, second)
    teacher, student, difference = (
      row[[16, 16, 48, 48], [16, 48] * 2, 0].tolist()
      for row in _rows(picture, 0)
    )
    self.assertEqual(teacher, [255, 0, 0, 255])
    self.assertEqual(student, [255, 255, 0, 0])
    self.assertEqual(difference, [0, 255, 0, 255])


if __name__ == '__main__':
  absltest.main()
