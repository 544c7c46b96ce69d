"""Views with RandAugment, mixup and CutMix: pure, resumable, cached."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from ft_tf import catalogue
from ft_tf.data import augmentations, chance, example_sets, mixing, views
from ft_tf.signals import cache

_COUNT = 11  # odd
_BATCH = 4
_STEPS = 8  # 2.9 epochs
_RAND = {'rand_augment_magnitude': 15.0, 'rand_augment_ops': 1}
_BOTH = {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0}
_ALL = {**_RAND, **_BOTH, 'rand_augment_ops': 2}
_SETTINGS = (_RAND, _BOTH, _ALL)


def _examples(channels=3, unlabelled=0):
  """Returns images of noise, not square; label k is image k."""
  rng = np.random.default_rng(0)
  images = rng.integers(1, 256, size=(_COUNT, 9, 6, channels)).astype(np.uint8)
  examples = example_sets.Examples(images, np.arange(_COUNT))
  if not unlabelled:
    return examples
  count = _COUNT - unlabelled
  return examples.take(np.arange(count)).joined(
    examples.take(np.arange(count, _COUNT))
  )


def _data(**values):
  return dataclasses.replace(
    catalogue.cifar10_resnet56_resnet20().data,
    **{'batch_size': _BATCH, 'pad': 2, 'flip': True, **values},
  )


def _batches(examples=None, seed=0, first=0, last=_STEPS, **values):
  contents = {k: values.pop(k) for k in ('labels', 'signals') if k in values}
  stream = views.stream(
    examples or _examples(),
    _data(**values),
    seed=seed,
    first_step=first,
    last_step=last,
    **contents,
  )
  return list(stream.as_numpy_iterator())


@functools.cache
def _whole(**values):
  """Returns the batches of all examples, in the first order."""
  return _batches(**values)


def _shown(batches):
  """Returns `{(epoch, example): row of the batch}`."""
  rows = [
    {name: values[i] for name, values in batch.items()}
    for batch in batches
    for i in range(len(batch['label']))
  ]
  return {
    (place // _COUNT, int(row['label'])): row for place, row in enumerate(rows)
  }


def _view(examples, number=0, **values):
  view = views.read_view(examples, _data(**values), number)
  return np.concatenate(list(view.as_numpy_iterator()))


class StreamTest(parameterized.TestCase):
  def assert_equal_rows(self, ours, theirs):
    self.assertEqual(ours.keys(), theirs.keys())
    for name in ours:
      np.testing.assert_array_equal(ours[name], theirs[name])

  @parameterized.parameters(*_SETTINGS)
  def test_an_example_is_the_same_in_another_order_and_batch(self, **values):
    first = _shown(_whole(**values))
    other = _shown(_batches(seed=1, batch_size=8, last=4, **values))
    common = first.keys() & other.keys()
    self.assertGreaterEqual(len(common), 2 * _COUNT)
    for place in common:
      self.assert_equal_rows(first[place], other[place])

  @parameterized.parameters(*_SETTINGS)
  def test_continued_stream_equals_an_uninterrupted_one(self, **values):
    # From the middle of the second epoch.
    for ours, theirs in zip(
      _batches(first=4, **values), _whole(**values)[4:], strict=True
    ):
      self.assert_equal_rows(ours, theirs)

  @parameterized.parameters(*_SETTINGS)
  def test_view_that_is_read_is_what_the_stream_shows(self, **values):
    shown = _shown(_whole(**values))
    view = _view(_examples(), 1, **values)
    for example in range(_COUNT):
      np.testing.assert_array_equal(shown[1, example]['image'], view[example])

  @parameterized.parameters(_RAND, _BOTH)
  def test_epochs_and_view_seeds_show_other_images(self, **values):
    first = _view(_examples(), 0, **values)
    for other in (
      _view(_examples(), 1, **values),
      _view(_examples(), 0, view_seed=1, **values),
    ):
      same = (first == other).all(axis=(1, 2, 3))
      self.assertLess(same.mean(), 0.3)

  def test_repeated_views_repeat_partner_and_share(self):
    shown = _shown(_batches(views=1, last=6, **_ALL))
    for example in range(_COUNT):
      self.assert_equal_rows(shown[0, example], shown[1, example])

  def test_labels_are_those_of_the_images_that_are_mixed(self):
    examples = _examples()
    plain = _view(examples)
    shown = _shown(_whole(**_BOTH))
    partners = [int(shown[0, i]['partner_label']) for i in range(_COUNT)]
    self.assertCountEqual(partners, range(_COUNT))
    numbers = mixing.draw(_COUNT, _data(), 0)
    mixed, share = mixing.mix(plain, plain[partners], numbers, **_BOTH)
    for i in range(_COUNT):
      np.testing.assert_array_equal(shown[0, i]['image'], mixed[i])
      self.assertEqual(shown[0, i]['share'], share[i])

  def test_operations_are_applied_after_the_crop(self):
    examples = _examples()
    numbers = chance.draw(chance.OPERATIONS, [_COUNT, 1, 2], 0, 0)
    expected = augmentations.rand_augment(
      _view(examples), numbers, magnitude=15.0
    )
    np.testing.assert_array_equal(_view(examples, **_RAND), expected)

  def test_grey_images_are_mixed_too(self):
    for batch in _batches(_examples(channels=1), last=3, **_ALL):
      self.assertEqual(batch['image'].shape, (_BATCH, 9, 6, 1))
      self.assertEqual(batch['image'].dtype, np.uint8)

  def test_shapes_and_types_are_known_before_the_first_batch(self):
    spec = views.stream(
      _examples(), _data(**_ALL), seed=0, first_step=0, last_step=1
    ).element_spec
    self.assertEqual(
      spec,
      {
        'image': tf.TensorSpec((_BATCH, 9, 6, 3), tf.uint8),
        'label': tf.TensorSpec((_BATCH,), tf.int64),
        'partner_label': tf.TensorSpec((_BATCH,), tf.int64),
        'share': tf.TensorSpec((_BATCH,), tf.float32),
      },
    )

  def test_paraphraser_sees_the_same_images_and_no_label(self):
    for ours, theirs in zip(
      _batches(labels=False, **_ALL), _whole(**_ALL), strict=True
    ):
      self.assertEqual(ours.keys(), {'image'})
      np.testing.assert_array_equal(ours['image'], theirs['image'])

  def test_images_without_labels_have_partners_without(self):
    batches = _batches(_examples(unlabelled=4), last=22, **_BOTH)
    labels, partners = (
      np.concatenate([batch[name] for batch in batches])
      for name in ('label', 'partner_label')
    )
    self.assertEqual((labels == -1).mean(), 4 / _COUNT)
    np.testing.assert_array_equal(labels == -1, partners == -1)


class SignalsTest(parameterized.TestCase):
  @parameterized.parameters((_ALL, 4), (_BOTH, 0))
  def test_kept_signal_is_that_of_the_image_in_the_batch(
    self, values, unlabelled
  ):
    examples = _examples(unlabelled=unlabelled)
    data = _data(views=2, **values)

    def compute(number):
      for images in views.read_view(examples, data, number).as_numpy_iterator():
        yield _signal(images)

    kept = cache.Store('memory').open({}, examples=_COUNT, width=2)
    kept.fill(range(2), compute, lambda line: None)
    for batch in _batches(examples, views=2, signals=kept, **values):
      np.testing.assert_array_equal(batch['signal'], _signal(batch['image']))

  def test_key_has_all_that_decides_a_view_and_nothing_that_is_off(self):
    examples = _examples()
    plain = views.describe(examples, _data())
    # As earlier versions recorded it: their signals are still found.
    self.assertEqual(
      plain, {'resizing': 'stretch', 'pad': 2, 'flip': True, 'view_seed': 0}
    )
    keys = [
      plain,
      *(views.describe(examples, _data(**values)) for values in _SETTINGS),
      views.describe(examples, _data(**{**_RAND, 'rand_augment_ops': 3})),
      views.describe(_examples(unlabelled=4), _data(**_ALL)),
    ]
    for i, key in enumerate(keys):
      self.assertNotIn(key, keys[:i])


def _signal(images):
  """Returns two numbers that tell images apart, `[B, 2]` float16."""
  weights = np.arange(images[0].size).reshape(images.shape[1:])
  means = [(images * w).mean(axis=(1, 2, 3)) for w in (1.0, weights / 200)]
  return np.stack(means, axis=1).astype(np.float16)


if __name__ == '__main__':
  absltest.main()
