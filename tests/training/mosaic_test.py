"""The picture of feature maps: known pixels, headings."""

import numpy as np
from absl.testing import absltest

from ft_tf.training import mosaic

_TILE = 64
_HEADING = 32
_NAMES = ('teacher factor', 'student factor')


def _draw(images, first, second):
  return mosaic.draw(images, first, second, names=_NAMES)


class MosaicTest(absltest.TestCase):
  def test_picture_has_the_image_and_both_networks_maps_side_by_side(self):
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1] = 255
    maps = np.random.default_rng(0).normal(size=(2, 4, 4, 12))
    picture = _draw(images, maps, maps)
    self.assertEqual(picture.shape, (_HEADING + 2 * _TILE, 25 * _TILE, 3))
    self.assertEqual(picture.dtype, np.uint8)
    tiles = picture[_HEADING:]
    self.assertEqual(tiles[:_TILE, :_TILE].max(), 0)
    self.assertEqual(tiles[_TILE + 1 : -1, 1 : _TILE - 1].min(), 255)
    # Equal maps look equal, and another scale of a factor changes nothing.
    teacher, student, difference = np.split(tiles[:, _TILE:], 3, axis=1)
    np.testing.assert_array_equal(teacher, student)
    self.assertEqual(difference.max(), 0)
    np.testing.assert_array_equal(_draw(images, maps, 5 * maps), picture)

  def test_each_group_of_columns_has_a_heading(self):
    images, maps = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 2, 2, 3))
    picture = _draw(images, maps, maps)
    heading = picture[:_HEADING]
    # White paper with black text over the input and over each of 3 x 3 maps.
    self.assertEqual(heading[0, 1].tolist(), [255, 255, 255])
    for tile in range(10):
      part = heading[:, tile * _TILE + 3 : (tile + 1) * _TILE]
      self.assertLess(part.min(), 100, f'column {tile} has no heading')
    other = mosaic.draw(images, maps, maps, names=('teacher map', 'rebuilt'))
    self.assertFalse(np.array_equal(other[:_HEADING], heading))
    np.testing.assert_array_equal(other[_HEADING:], picture[_HEADING:])

  def test_heading_that_is_too_long_stays_in_its_group(self):
    images, maps = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 2, 2, 1))
    short = mosaic.draw(images, maps, maps, names=('a', 'b'))
    long = mosaic.draw(images, maps, maps, names=('a' * 50, 'b'))
    np.testing.assert_array_equal(long[:, 2 * _TILE :], short[:, 2 * _TILE :])

  def test_dead_maps_are_drawn(self):
    zeros = np.zeros((1, 2, 2, 3))
    picture = _draw(np.zeros((1, 8, 8, 3), np.uint8), zeros, zeros)
    self.assertEqual(picture.shape, (_HEADING + _TILE, 10 * _TILE, 3))

  def test_difference_shows_where_the_maps_differ(self):
    first = np.zeros((1, 2, 2, 1))
    first[0, 0, 0, 0] = first[0, 1, 1, 0] = 1
    second = np.zeros((1, 2, 2, 1))
    second[0, 0, 0, 0] = second[0, 0, 1, 0] = 1
    picture = _draw(np.zeros((1, 8, 8, 3), np.uint8), first, second)
    tiles = picture[_HEADING:]
    places = tiles[[16, 16, 48, 48], [3 * _TILE + 16, 3 * _TILE + 48] * 2, 0]
    np.testing.assert_array_equal(places, [0, 255, 0, 255])


if __name__ == '__main__':
  absltest.main()
